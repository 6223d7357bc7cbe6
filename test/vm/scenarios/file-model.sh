# Random writes, holes, zeros and truncations, each at any place and length, of a disk itself and of files of ext4 and xfs on it;
# what is read is compared with what must be there.
# usage: file-model.sh ROUNDS [SEED]
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"
seed=${2:-$RANDOM}
say "seed $seed"
corral create image.qcow2 448M
attach image.qcow2
node "$CORRAL/test/vm/guest/file-model.mjs" "$device" 24 "$1" "$seed"
for kind in ext4 xfs; do
  mkfs.$kind -q "$([ $kind = xfs ] && echo -f || echo -F)" "$device"
  mkdir $kind
  mount -o discard "$device" $kind
  touch $kind/file
  node "$CORRAL/test/vm/guest/file-model.mjs" $kind/file 24 "$1" $((seed + 1))
  sum=$(sha256sum < $kind/file)
  umount $kind
  mount "$device" $kind
  [ "$(sha256sum < $kind/file)" = "$sum" ] || fail "the file is another one after it was mounted again"
  umount $kind
done
seen=$(sha256sum < "$device")
kill -TERM "$server"
server_ends_well
qemu-img check image.qcow2
qemu-img convert -O raw image.qcow2 image.raw
[ "$(sha256sum < image.raw)" = "$seen" ] || fail "QEMU reads something else"

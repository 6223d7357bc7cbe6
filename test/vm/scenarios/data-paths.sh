# Each data path carries requests of every size at depth 1 and 32, to images on a disk and in memory, and what of an image
# has to be made in memory: zeros, compressed clusters, what lies behind it, parts of clusters that are copied.
# usage: data-paths.sh PATH...
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"
modprobe loop
truncate -s 1G disk
mkfs.ext4 -q disk
mkdir on-disk
mount -o loop disk on-disk

head -c 8M /dev/urandom > noise
{ cat noise; head -c 4M /dev/zero; base64 noise; } > content
truncate -s 40M content
qemu-img convert -c -f raw -O qcow2 content base.qcow2
expected=$(sha256sum < content)

for path in "$@"; do
  for folder in . on-disk; do
    qemu-img create -q -f qcow2 -b "$SCRATCH/base.qcow2" -F qcow2 "$folder/image.qcow2"
  done
  attach --verbose --data-path "$path" image.qcow2 on-disk/image.qcow2
  timeout 60 bash -c "while [ \"\$(grep -c 'data path $path,' $corral_output)\" -lt 2 ]; do sleep 0.05; done" ||
    fail "the data path is not $path: $(cat "$corral_output")"
  mapfile -t devices < <(grep -x '/dev/ublkb[0-9]*' "$corral_output")
  for device in "${devices[@]}"; do
    [ "$(dd if="$device" bs=1M iflag=direct status=none | sha256sum)" = "$expected" ] || fail "$path: what is read is wrong"
  done
  # Both devices at once, mixed sizes that begin anywhere; then again one by one.
  fio --direct=1 --ioengine=io_uring --rw=randwrite --bsrange=4k-1m --bs_unaligned=0 --blockalign=4k --verify=crc32c \
    --verify_fatal=1 --size=20m --output=/run/fio.log --iodepth=32 --group_reporting \
    --name=memory --filename="${devices[0]}" --name=disk --filename="${devices[1]}" ||
    fail "$path, depth 32: $(cat /run/fio.log)"
  fio --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k --verify=crc32c --verify_fatal=1 --offset=20m --size=20m \
    --io_size=1m --output=/run/fio.log --iodepth=1 --name=memory --filename="${devices[0]}" --name=disk \
    --filename="${devices[1]}" || fail "$path, depth 1: $(cat /run/fio.log)"
  seen=$(cat "${devices[@]}" | sha256sum)
  kill -TERM "$server"
  server_ends_well
  rm -f image.raw
  for image in image.qcow2 on-disk/image.qcow2; do
    qemu-img check -q "$image"
    qemu-img convert -O raw "$image" part.raw
    cat part.raw >> image.raw
  done
  [ "$(sha256sum < image.raw)" = "$seen" ] || fail "$path: QEMU reads something else"
  say "$path carries everything"
done
umount on-disk

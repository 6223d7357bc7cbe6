# What a file system frees goes back to the host: the image file gets smaller, and zeroes take no space.
# usage: trim.sh ARCHIVE IMAGE-AFTER
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
folder=/run/files

allocated() {
  sync "$image"
  echo $(($(stat -c '%b * %B' "$image") / 1048576))
}

corral create -q "$image" 2G
attach "$image"
for limit in discard_granularity discard_max_bytes write_zeroes_max_bytes; do
  say "$limit $(cat "/sys/block/${device#/dev/}/queue/$limit")"
done
mkfs.ext4 -q "$device"
mkdir -p $folder
mount "$device" $folder
tar -C $folder -xf "$1"
sync
full=$(allocated)
rm -r $folder/*
sync
fstrim -v $folder
sync
trimmed=$(allocated)
say "$full MiB of the image were in use, $trimmed MiB after the trim"
[ "$trimmed" -lt $((full / 3)) ] || fail "the trim gave too little back"

umount $folder
fsck.ext4 -fn "$device"
head -c 4M /dev/urandom > /run/noise
dd if=/run/noise of="$device" bs=1M seek=64 oflag=direct conv=notrunc status=none
blkdiscard -z -o $((65 * 1048576)) -l 1048576 "$device"
blkdiscard -o $((66 * 1048576)) -l 1048576 "$device"
{ head -c 1M /run/noise; head -c 2M /dev/zero; tail -c 1M /run/noise; } > /run/expected
forget_caches
dd if="$device" bs=1M skip=64 count=4 iflag=direct status=none | cmp - /run/expected
say "zeroes and discards read as zeros, and their neighbours stayed"
detach
cp "$image" "$2"

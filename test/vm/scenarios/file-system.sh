# A file system from nothing: made, filled, looked at by its own judge, read through a new server, and trimmed. What it
# frees goes back to the host: the image file gets smaller, and zeroes take no space.
# usage: file-system.sh ext4|xfs ARCHIVE CHECKSUMS IMAGE-AFTER
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
folder=/run/files

allocated() {
  sync "$image"
  echo $(($(stat -c '%b * %B' "$image") / 1048576))
}

# The file system's own check finds nothing.
judge() {
  if [ "$1" = ext4 ]; then
    fsck.ext4 -fn "$device"
  else
    xfs_repair -n "$device" > /run/repair 2>&1 || fail "xfs_repair: $(cat /run/repair)"
  fi
}

corral create -q "$image" 1G
attach "$image"
for limit in discard_granularity discard_max_bytes write_zeroes_max_bytes; do
  say "$limit $(cat "/sys/block/${device#/dev/}/queue/$limit")"
done
"mkfs.$1" -q "$device"
mkdir -p $folder
mount "$device" $folder
rm -rf $folder/lost+found
tar -C $folder -xf "$2"
umount $folder
say "filled"
judge "$1"
full=$(allocated)
kill -TERM "$server"
server_ends_well

# A server that knows nothing of the first one's caches.
attach "$image"
mount "$device" $folder
verify_checksums $folder "$3"
rm -r $folder/*
sync
fstrim -v $folder
sync
trimmed=$(allocated)
say "$full MiB of the image were in use, $trimmed MiB after the trim"
[ "$trimmed" -lt $((full / 3)) ] || fail "the trim gave too little back"
umount $folder
judge "$1"

head -c 4M /dev/urandom > /run/noise
dd if=/run/noise of="$device" bs=1M seek=64 oflag=direct conv=notrunc status=none
blkdiscard -z -o $((65 * 1048576)) -l 1048576 "$device"
blkdiscard -o $((66 * 1048576)) -l 1048576 "$device"
{ head -c 1M /run/noise; head -c 2M /dev/zero; tail -c 1M /run/noise; } > /run/expected
forget_caches
dd if="$device" bs=1M skip=64 count=4 iflag=direct status=none | cmp - /run/expected
say "zeroes and discards read as zeros, and their neighbours stayed"
kill -TERM "$server"
server_ends_well
cp "$image" "$4"

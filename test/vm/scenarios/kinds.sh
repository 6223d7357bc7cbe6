# Devices as they are asked for: looked at before they are made, of other blocks and caches, and several of one process.
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"
echo "I/O error" > /run/expected-messages
limit() {
  cat "/sys/block/${device##*/}/queue/$1"
}
expect_limit() {
  [ "$(limit "$1")" = "$2" ] || fail "$1 is $(limit "$1"), not $2"
}

corral create image.qcow2 64M
before=$(sha256sum image.qcow2)
corral attach --dry-run --recovery reissue image.qcow2
[ "$(sha256sum image.qcow2)" = "$before" ] || fail "a dry run has changed the image"
made=(/dev/ublkb* /dev/ublkc*)
[ ${#made[@]} = 0 ] || fail "a dry run has made a device"

attach --block-size 4096 --cache writethrough --discard ignore image.qcow2
expect_limit logical_block_size 4096
expect_limit minimum_io_size 4096
expect_limit optimal_io_size 65536
expect_limit write_cache 'write through'
expect_limit discard_max_bytes 0
expect_limit rotational 0
[ "$(limit write_zeroes_max_bytes)" -gt 0 ] || fail "zeroes are not offered"
# No flush: what was answered is there although the server dies, tables and all.
head -c 4M /dev/urandom > noise
dd if=noise of="$device" bs=64k seek=100 oflag=direct conv=notrunc status=none
kill -KILL "$server"
wait "$server" 2> /dev/null || true
timeout 30 bash -c "while [ -e $device ]; do sleep 0.05; done"
qemu-img convert -O raw image.qcow2 image.raw
dd if=image.raw bs=64k skip=100 count=64 status=none | cmp - noise
corral detach "$device"

images=()
for ((number = 0; number < 6; number++)); do
  qemu-img create -q -f qcow2 "many$number.qcow2" 64M
  images+=("many$number.qcow2")
done
attach "${images[@]}"
timeout 60 bash -c "while [ \"\$(wc -l < $corral_output)\" -lt 6 ]; do sleep 0.05; done" || fail "not all are served"
mapfile -t devices < "$corral_output"
for device in "${devices[@]}"; do
  { echo "$device"; cat noise; } | head -c 4M | dd of="$device" bs=1M iflag=fullblock oflag=direct status=none || fail "$device"
done
kill -TERM "$server"
server_ends_well
for number in "${!images[@]}"; do
  qemu-img check "many$number.qcow2"
  qemu-img convert -O raw "many$number.qcow2" image.raw
  { echo "${devices[number]}"; cat noise; } | head -c 4M | cmp - <(head -c 4M image.raw)
done

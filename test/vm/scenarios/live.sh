# What is done with a device while its guest writes: snapshots, a longer disk, a flush, statistics; what cannot be done; and
# its end with writes in flight, by a signal or because somebody takes the device away.
# usage: live.sh grows|stays  (whether the kernel can change the capacity of a block device)
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
echo 'I/O error' > /run/expected-messages

corral create "$image" 512M
attach --verbose "$image"
cat "$corral_output"
[ "$(stat -c %a /run/corral /run/corral/ublkb*.sock | tr '\n' ' ')" = '700 600 ' ] || fail "others may control $device"
start_load

head -c 1M /dev/urandom > /run/old
dd if=/run/old of="$device" bs=1M seek=16 oflag=direct conv=notrunc status=none
corral snapshot -c first "$device"
dd if=/dev/urandom of="$device" bs=1M seek=16 count=1 oflag=direct conv=notrunc status=none
node "$CORRAL/test/vm/guest/look-after.mjs" "$device" 5
refuses 'detach it first' "${corral_command[@]}" snapshot -a first "$device"

corral cache "$device" 16M
corral resize "$device" +64M
size=$(blockdev --getsize64 "$device")
if [ "$1" = grows ]; then
  [ "$size" = $((576 << 20)) ] || fail "the device has $size bytes"
  dd if=/run/old of="$device" bs=1M seek=575 oflag=direct conv=notrunc status=none
  dd if="$device" bs=1M skip=575 count=1 iflag=direct status=none | cmp - /run/old
else
  [ "$size" = $((512 << 20)) ] || fail "the device has $size bytes"
fi
corral stat "$device" | tee /run/stat
grep -qE '^metadata cache: 15[.0-9]* MiB' /run/stat || fail "the cache has its old size"
grep -qE '^write: [1-9][0-9]* requests' /run/stat || fail "no writes are counted"
kill -0 "$load" && kill -0 "$writer" || fail "a writer saw an error: $(cat /run/fio.log /run/ledger.log)"

if [ "$1" = grows ]; then corral detach --force "$device"; else kill -TERM "$server"; fi
server_ends_well
load_ends
[ -z "$(ls /run/corral)" ] || fail "left behind: $(ls /run/corral)"
qemu-img check "$image"
[ "$(qemu-img info --output json "$image" | grep -c '"virtual-size": 603979776')" != 0 ] || fail "the disk did not grow"
[ "$(qemu-img snapshot -l "$image" | grep -cE ' (first|round 5) ')" = 2 ] || fail "not the snapshots that were made"
qemu-img convert -l snapshot.name=first -O raw "$image" "$SCRATCH/first.raw"
dd if="$SCRATCH/first.raw" bs=1M skip=16 count=1 status=none | cmp - /run/old
rm "$SCRATCH/first.raw"
attach --read-only "$image"
verify_ledger
kill -TERM "$server"
server_ends_well

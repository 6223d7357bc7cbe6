# What is done with a device while its guest writes: snapshots, a longer disk, a flush, statistics; and what cannot be done.
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
for name in first second; do
  corral snapshot -c $name "$device"
  say "made the snapshot $name"
done
dd if=/dev/urandom of="$device" bs=1M seek=16 count=1 oflag=direct conv=notrunc status=none
corral snapshot -d second "$device"
corral snapshot -l "$device" | tee /run/snapshots
grep -q ' first ' /run/snapshots || fail "the list is not the one that was made"
! grep -q second /run/snapshots || fail "a snapshot that was deleted is listed"
refuses 'detach the device' "${corral_command[@]}" snapshot -a first "$device"

corral resize "$device" +64M
size=$(blockdev --getsize64 "$device")
if [ "$1" = grows ]; then
  [ "$size" = $((576 << 20)) ] || fail "the device has $size bytes"
  dd if=/run/old of="$device" bs=1M seek=575 oflag=direct conv=notrunc status=none
  dd if="$device" bs=1M skip=575 count=1 iflag=direct status=none | cmp - /run/old
else
  [ "$size" = $((512 << 20)) ] || fail "the device has $size bytes"
fi
refuses 'smaller|shorter|shrink' "${corral_command[@]}" resize --shrink "$device" 256M
corral flush "$device"
corral stat "$device" | tee /run/stat
grep -qE '^write: [1-9][0-9]* requests' /run/stat || fail "no writes are counted"
kill -0 "$load" && kill -0 "$writer" || fail "a writer saw an error: $(cat /run/fio.log /run/ledger.log)"

# The image's server says all of that again, and QEMU finds it.
kill -TERM "$server"
status=0
wait "$server" || status=$?
[ "$status" = 0 ] || fail "the server's exit status is $status: $(cat "$corral_output.err")"
load_ends
[ -z "$(ls /run/corral)" ] || fail "left behind: $(ls /run/corral)"
refuses 'No server' "${corral_command[@]}" flush "$device"
qemu-img check "$image"
[ "$(qemu-img info --output json "$image" | grep -c '"virtual-size": 603979776')" != 0 ] || fail "the disk did not grow"
qemu-img convert -l snapshot.name=first -O raw "$image" "$SCRATCH/first.raw"
dd if="$SCRATCH/first.raw" bs=1M skip=16 count=1 status=none | cmp - /run/old
rm "$SCRATCH/first.raw"
attach --read-only "$image"
verify_ledger
detach

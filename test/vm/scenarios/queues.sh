# A device with two queues, each with a thread, on one core: two processors write and verify at once, beside a commit, a trim, snapshots
# and a longer disk; then its server is killed under load, and another one goes on.
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"

corral create base.qcow2 448M
corral create -b base.qcow2 -F qcow2 image.qcow2
attach --queues 2 --recovery reissue image.qcow2
queues=("/sys/block/${device##*/}/mq"/*)
[ ${#queues[@]} = 2 ] || fail "the device has ${#queues[@]} queues"

fio --direct=1 --ioengine=io_uring --filename="$device" --rw=randwrite --bsrange=4k-256k --blockalign=4k \
  --verify=crc32c --verify_fatal=1 --iodepth=16 --size=48m --cpus_allowed=0-1 --cpus_allowed_policy=split \
  --name=one --offset=0 --name=two --offset=56m --output=/run/fio.log &
load=$!
for ((tries = 0; tries < 200; tries++)); do
  [ "$(stat -c %s image.qcow2)" -lt $((8 << 20)) ] || break
  sleep 0.1
done
corral commit "$device"
[ "$(stat -c %s base.qcow2)" -gt $((4 << 20)) ] || fail "nothing was committed"
for ((number = 0; number < 3; number++)); do
  blkdiscard --offset 112m --length 8m "$device"
  corral snapshot -c "snapshot-$number" "$device"
done
corral resize "$device" +64M
wait "$load" || fail "two writers: $(cat /run/fio.log)"
[ "$(blockdev --getsize64 "$device")" = $((512 << 20)) ] || fail "the device has not grown"
dd if=/dev/urandom of="$device" bs=1M seek=500 count=12 oflag=direct status=none || fail "its new end cannot be written"
corral stat "$device"

start_load
kill -KILL "$server"
wait "$server" 2> /dev/null || true
sleep 0.2
recover "$device"
queues=("/sys/block/${device##*/}/mq"/*)
[ ${#queues[@]} = 2 ] || fail "the device has ${#queues[@]} queues after the recovery"
kill "$load" "$writer"
wait "$load" "$writer" || true
verify_ledger
detach
status=0
qemu-img check image.qcow2 || status=$?
# 3: clusters that nothing refers to, which is all that such an end may cost.
[ "$status" = 0 ] || [ "$status" = 3 ] || fail "worse than leaks"
qemu-img check base.qcow2 || fail "the commit has damaged what lies behind the image"
[ "$(qemu-img snapshot -l image.qcow2 | grep -c snapshot-)" = 3 ] || fail "snapshots are missing"

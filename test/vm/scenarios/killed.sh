# A server that is killed while writes are in flight: its device ends, and whatever was made durable stays.
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
echo 'I/O error' > /run/expected-messages

corral create "$image" 512M
attach "$image"
start_load
kill -KILL "$server"
status=0
wait "$server" 2> /dev/null || status=$?
[ "$status" = 137 ] || fail "the server's exit status is $status"
timeout 30 bash -c "while [ -e $device ]; do sleep 0.05; done" || fail "$device is still there after its server's death"
load_ends
status=0
qemu-img check "$image" || status=$?
# 3: clusters that nothing refers to, which is all that such an end may cost.
[ "$status" = 0 ] || [ "$status" = 3 ] || fail "worse than leaks"

# The driver removes the disk, but keeps the number until somebody tells it to forget the device.
dead=$device
corral list | tee /run/list
grep -q "^$dead .* dead " /run/list || fail "list does not know that $dead is dead"
attach "$image"
verify_ledger
dd if=/dev/urandom of="$device" bs=64k count=64 seek=6000 oflag=direct status=none
kill -TERM "$server"
server_ends_well
corral detach "$dead"
status=0
qemu-img check "$image" || status=$?
[ "$status" = 0 ] || [ "$status" = 3 ] || fail "worse than leaks"

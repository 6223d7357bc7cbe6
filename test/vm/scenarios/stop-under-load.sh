# A signal for the server while writes are in flight: whatever was made durable stays, and nothing is left behind.
# usage: stop-under-load.sh SIGNAL
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
# Programs that write while their device goes away get errors, and the kernel says so.
echo 'I/O error' > /run/expected-messages

corral create "$image" 512M
attach "$image"
start_load
kill "-$1" "$server"
server_ends_well
load_ends
qemu-img check "$image"

attach --read-only "$image"
verify_ledger
detach

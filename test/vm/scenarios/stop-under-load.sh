# A signal for the server while writes are in flight: whatever was made durable stays, and nothing is left behind.
# usage: stop-under-load.sh SIGNAL
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
ledger="node $CORRAL/test/vm/guest/ledger.mjs"
# Programs that write while their device goes away get errors, and the kernel says so.
echo 'I/O error' > /run/expected-messages

corral create "$image" 512M
attach "$image"
# Two neighbours: fio keeps many writes in flight, the other one knows which of its own became durable.
fio --name=load --filename="$device" --direct=1 --offset=128m --size=256m --rw=randwrite --bs=4k-64k --iodepth=32 \
  --ioengine=io_uring --fsync=32 --verify=crc32c --do_verify=0 --time_based --runtime=300 > /run/fio.log 2>&1 &
load=$!
$ledger write "$device" /run/ledger 8 > /run/ledger.log 2>&1 &
writer=$!
for ((tries = 0; tries < 600; tries++)); do
  [ -e /run/ledger ] && [ "$(wc -l < /run/ledger)" -ge 500 ] && break
  sleep 0.1
done
kill -0 "$load" 2> /dev/null || fail "fio ended too early: $(cat /run/fio.log)"
kill -0 "$writer" 2> /dev/null || fail "the ledger's writer ended too early: $(cat /run/ledger.log)"

kill "-$1" "$server"
server_ends_well 20
wait "$load" && fail "fio did not notice that its device is gone"
wait "$writer" || fail "the ledger's writer: $(cat /run/ledger.log)"
say "$(wc -l < /run/ledger) durable writes"
qemu-img check "$image"

attach --read-only "$image"
$ledger verify "$device" /run/ledger 8
detach

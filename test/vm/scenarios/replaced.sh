# Servers change under a device: by hand-over, which nobody who writes notices; after a death, when what is asked meanwhile
# fails at once (fail-all) until the next one is there.
# usage: replaced.sh [hands-over]     (whether the driver has QUIESCE)
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"
printf '%s\n' 'I/O error' 'critical target error' > /run/expected-messages
corral create image.qcow2 512M

replace() {
  local old=$server old_output=$corral_output
  start_server recover --replace "$device"
  timeout 30 tail --pid="$old" -f /dev/null || fail "the old server still runs"
  wait "$old" || fail "the old server's exit status is $?: $(cat "$old_output.err")"
}
if [ "${1-}" = hands-over ]; then
  attach --recovery reissue image.qcow2
  first=$device
  fio --name=checked --filename="$device" --direct=1 --ioengine=io_uring --iodepth=32 --offset=400m --size=24m --rw=randwrite \
    --bsrange=4k-256k --blockalign=4k --verify=crc32c --verify_fatal=1 --loops=3 --output=/run/checked.log &
  checked=$!
  start_load
  for round in 1 2; do
    before=$(wc -l < /run/ledger)
    replace
    [ "$device" = "$first" ] || fail "$device was taken over, not $first"
    for ((tries = 0; tries < 3000 && $(wc -l < /run/ledger) < before + 100; tries++)); do sleep 0.02; done
    kill -0 "$load" && kill -0 "$writer" || fail "a writer saw an error: $(cat /run/fio.log /run/ledger.log)"
    say "round $round: $before writes were durable, then $(wc -l < /run/ledger)"
  done
  wait "$checked" || fail "what was written is not what is read: $(cat /run/checked.log)"
  kill -TERM "$server"
  server_ends_well
  load_ends
  # Every one of them has closed the image in order.
  qemu-img check image.qcow2
  attach --read-only image.qcow2
  verify_ledger
  kill -TERM "$server"
  server_ends_well

  attach --recovery fail-all image.qcow2
  dd if=/dev/urandom of=noise bs=1M count=4 status=none
  dd if=noise of="$device" bs=1M seek=300 oflag=direct conv=notrunc,fsync status=none
  kill -KILL "$server"
  wait "$server" 2> /dev/null || true
  ! timeout 20 dd if="$device" of=/dev/null bs=64k skip=4800 count=1 iflag=direct 2> /run/dd.log || fail "a device without a server was read"
  grep -qE 'Input/output|Remote I/O' /run/dd.log || fail "it does not fail at once: $(cat /run/dd.log)"
  recover "$device"
  dd if="$device" bs=1M skip=300 count=4 iflag=direct status=none | cmp - noise
  detach
  qemu-img check image.qcow2
else
  attach --recovery reissue image.qcow2
  refuses 'QUIESCE|6\.16' "${corral_command[@]}" recover --replace "$device"
  dd if=/dev/urandom of="$device" bs=1M count=4 oflag=direct status=none || fail "a hand-over that was refused harms"
  detach
  refuses 'fail-all|driver' "${corral_command[@]}" attach --recovery fail-all image.qcow2
fi

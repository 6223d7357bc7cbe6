# A server that is killed in the middle of writes, again and again, and each time another one that goes on: whoever writes
# waits meanwhile and sees no error, and whatever was made durable stays.
# usage: recovered.sh TIMES
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
echo 'I/O error' > /run/expected-messages

corral create "$image" 512M
attach --recovery reissue "$image"
first=$device
# One that dies while nobody asks it for anything.
kill -KILL "$server"
wait "$server" 2> /dev/null || true
recover "$first"
start_load
for ((round = 1; round <= $1; round++)); do
  before=$(wc -l < /run/ledger)
  kill -KILL "$server"
  wait "$server" 2> /dev/null || true
  [ -b "$first" ] || fail "$first went away with its server"
  if [ "$round" = 1 ]; then recover; else recover "$first"; fi
  [ "$device" = "$first" ] || fail "$device was recovered, not $first"
  for ((tries = 0; tries < 3000 && $(wc -l < /run/ledger) < before + 100; tries++)); do sleep 0.02; done
  [ "$tries" -lt 3000 ] || fail "the writers do not go on"
  kill -0 "$load" && kill -0 "$writer" || fail "a writer saw an error: $(cat /run/fio.log /run/ledger.log)"
  say "round $round: $before writes were durable, then $(wc -l < /run/ledger)"
done

# The end of the last one is an ordinary one.
kill -TERM "$server"
server_ends_well
load_ends
status=0
qemu-img check "$image" || status=$?
# 3: clusters that nothing refers to, which is all that such an end may cost.
[ "$status" = 0 ] || [ "$status" = 3 ] || fail "worse than leaks"
attach --read-only "$image"
verify_ledger
kill -TERM "$server"
server_ends_well
[ -z "$(ls /run/corral 2> /dev/null)" ] || fail "records are left behind: $(ls /run/corral)"

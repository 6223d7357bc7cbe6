# What every scenario shares: strictness, the corral command, devices by their server, and a last look around.
# The variables CORRAL (the repository), SHARED and SCRATCH come from the driver.
set -Eeuo pipefail
shopt -s nullglob inherit_errexit

# The command under test; CORRAL_COMMAND replaces it while a scenario is being written.
read -r -a corral_command <<< "${CORRAL_COMMAND:-node $CORRAL/dist/host/cli/main.js}"
corral() {
  "${corral_command[@]}" "$@"
}

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

say() {
  printf '%6s s  %s\n' "$SECONDS" "$*"
}

# attach [OPTION...] IMAGE: starts a server in the background; sets `device` and `server`.
attach() {
  start_server attach "$@"
}

# recover [DEVICE]: the same for a device whose server died.
recover() {
  start_server recover "$@"
}

start_server() {
  device=
  corral_output=$(mktemp -p /run corral-XXXXXX)
  # A shell without job control has its background commands ignore SIGINT.
  env --default-signal=INT "${corral_command[@]}" "$@" > "$corral_output" 2> "$corral_output.err" < /dev/null &
  server=$!
  for ((tries = 0; tries < 1200; tries++)); do
    if read -r device < "$corral_output" && [ -b "$device" ]; then
      return
    fi
    kill -0 "$server" 2> /dev/null || fail "$1 ended: $(cat "$corral_output" "$corral_output.err")"
    sleep 0.05
  done
  fail "$1 gave no device within 60 s: $(cat "$corral_output" "$corral_output.err")"
}

# Waits for the server's end; it must be a good one, in time, that leaves no device.
server_ends_well() {
  local seconds=${1:-60} status=0 started=$SECONDS
  # A shell cannot wait with a time limit; the end of the process itself is what wait then tells.
  timeout "$seconds" tail --pid="$server" -f /dev/null || fail "the server still runs after $seconds s"
  wait "$server" || status=$?
  [ "$status" = 0 ] || fail "the server's exit status is $status: $(cat "$corral_output" "$corral_output.err")"
  [ ! -s "$corral_output.err" ] || fail "the server complains: $(cat "$corral_output.err")"
  [ ! -e "$device" ] || fail "$device is still there after the server's end"
  say "the server ended well within $((SECONDS - started)) s"
}

# Ends the server by the command made for it.
detach() {
  corral detach "$device"
  [ ! -e "$device" ] || fail "detach came back before $device was gone"
  server_ends_well
}

# Two neighbours write to the device: fio keeps many writes in flight, the other one has a ledger of what became durable.
# Comes back when both are well under way.
start_load() {
  # What fio cannot open it would make: a file in the device's place once that is gone.
  fio --name=load --filename="$device" --allow_file_create=0 --direct=1 --offset=128m --size=256m --rw=randwrite \
    --bs=4k-64k --iodepth=32 --ioengine=io_uring --fsync=32 --verify=crc32c --do_verify=0 --time_based --runtime=300 \
    > /run/fio.log 2>&1 &
  load=$!
  node "$CORRAL/test/vm/guest/ledger.mjs" write "$device" /run/ledger 8 > /run/ledger.log 2>&1 &
  writer=$!
  local tries writes=0 durable=0 in_flight=0
  # Both have to be well under way, and then the moment is one with writes on the server's hands.
  for ((tries = 0; tries < 3000; tries++)); do
    kill -0 "$load" 2> /dev/null || fail "fio ended too early: $(cat /run/fio.log)"
    kill -0 "$writer" 2> /dev/null || fail "the ledger's writer ended too early: $(cat /run/ledger.log)"
    read -r _ _ _ _ writes _ < "/sys/block/${device##*/}/stat"
    [ ! -e /run/ledger ] || durable=$(wc -l < /run/ledger)
    [ "$durable" -ge 300 ] && [ $((writes - durable)) -ge 1000 ] && break
    sleep 0.02
  done
  for ((; tries < 3000; tries++)); do
    read -r _ in_flight < "/sys/block/${device##*/}/inflight"
    [ "$in_flight" -ge 4 ] && break
  done
  [ "$tries" -lt 3000 ] || fail "the load never got going: $writes writes, $durable of them durable, $in_flight in flight"
  say "$writes writes, $durable of them durable; $in_flight in flight"
}

# Waits for the load's end after the device's.
load_ends() {
  wait "$load" && fail "fio did not notice that its device is gone"
  wait "$writer" || fail "the ledger's writer: $(cat /run/ledger.log)"
  say "$(wc -l < /run/ledger) durable writes"
}

# Whatever the ledger has is on the device.
verify_ledger() {
  node "$CORRAL/test/vm/guest/ledger.mjs" verify "$device" /run/ledger 8
}

# refuses PATTERN COMMAND...: the command ends with status 1 and exactly one line, which matches. Behind a line about a locked
# image QEMU asks a question; so do we.
refuses() {
  local pattern=$1 output status=0 question=$'\n'"Is another process using the image [[]*[]][?]"
  shift
  output=$(timeout 120 "$@" 2>&1 < /dev/null) || status=$?
  [ "$status" = 1 ] || fail "exit status $status instead of 1 from: $* ($output)"
  # shellcheck disable=SC2295 # it is a pattern
  if [[ $output == *lock* ]]; then output=${output%$question}; fi
  [ "$(wc -l <<< "$output")" = 1 ] || fail "more than one line from: $*"$'\n'"$output"
  grep -qiE -- "$pattern" <<< "$output" || fail "'$output' does not say '$pattern' for: $*"
  say "$output"
}

# checksums FOLDER: what sha256sum says of each regular file, by relative names, sorted.
checksums() {
  local parts
  parts=$(mktemp -d -p /run)
  # A file for each process: lines of two processes would mix in one pipe.
  (cd "$1" && find . -xdev -type f -print0 |
    xargs -0 -r -n 250 -P "$(nproc)" bash -c 'sha256sum "$@" > "$0/$$"' "$parts")
  cat /dev/null "$parts"/* | LC_ALL=C sort
  rm -r "$parts"
}

# verify_checksums FOLDER LIST: the files of the list are there with their contents, and no others.
verify_checksums() {
  checksums "$1" > /run/found
  LC_ALL=C sort "$2" | diff - /run/found > /run/differences || fail "the files differ: $(head -n 5 /run/differences)"
  say "$(wc -l < "$2") files have their checksums"
}

# Gives everything to the device, and forgets it, so that what is read next comes from the device.
forget_caches() {
  sync
  echo 3 > /proc/sys/vm/drop_caches
}

# At every scenario's end: no device, no server, and a kernel without complaints.
look_around() {
  local status=$?
  if [ "$status" != 0 ]; then
    # What the server and the kernel say of it.
    [ -z "${corral_output-}" ] || cat "$corral_output.err" >&2
    dmesg | tail -n 10 >&2
    exit "$status"
  fi
  local left=(/dev/ublkb* /dev/ublkc*)
  [ ${#left[@]} = 0 ] || fail "left behind: ${left[*]}"
  ! grep -ls 'cli/main[.]js' /proc/[0-9]*/cmdline || fail "a server is left behind"
  ! dmesg | grep -E 'BUG:|WARNING:|I/O error|Oops|blocked for more than|EXT4-fs error|XFS.*(rror|orrupt)' | grep -vF -f /run/expected-messages ||
    fail "the kernel complains"
  say "done"
}
: > /run/expected-messages
trap look_around EXIT
trap 'echo "status $? of line $LINENO: $BASH_COMMAND" >&2' ERR
dmesg --clear

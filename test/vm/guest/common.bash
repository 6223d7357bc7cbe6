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
  device=
  corral_output=$(mktemp -p /run corral-XXXXXX)
  # A shell without job control has its background commands ignore SIGINT.
  env --default-signal=INT "${corral_command[@]}" attach "$@" > "$corral_output" 2> "$corral_output.err" < /dev/null &
  server=$!
  for ((tries = 0; tries < 1200; tries++)); do
    if read -r device < "$corral_output" && [ -b "$device" ]; then
      return
    fi
    kill -0 "$server" 2> /dev/null || fail "attach ended: $(cat "$corral_output" "$corral_output.err")"
    sleep 0.05
  done
  fail "attach gave no device within 60 s: $(cat "$corral_output" "$corral_output.err")"
}

# Waits for the server's end; it must be a good one, in time, that leaves no device.
server_ends_well() {
  local seconds=${1:-15} status=0 started=$SECONDS
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

# refuses PATTERN COMMAND...: the command ends with status 1 and exactly one line, which matches.
refuses() {
  local pattern=$1 output status=0
  shift
  output=$(timeout 30 "$@" 2>&1 < /dev/null) || status=$?
  [ "$status" = 1 ] || fail "exit status $status instead of 1 from: $* ($output)"
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
  [ "$status" = 0 ] || exit "$status"
  local left=(/dev/ublkb* /dev/ublkc*)
  [ ${#left[@]} = 0 ] || fail "left behind: ${left[*]}"
  ! grep -l 'cli/main[.]js' /proc/[0-9]*/cmdline || fail "a server is left behind"
  ! dmesg | grep -E 'BUG:|WARNING:|I/O error|Oops|blocked for more than|EXT4-fs error|XFS.*(rror|orrupt)' | grep -vF -f /run/expected-messages ||
    fail "the kernel complains"
  say "done"
}
: > /run/expected-messages
trap look_around EXIT
trap 'echo "status $? of line $LINENO: $BASH_COMMAND" >&2' ERR
dmesg --clear

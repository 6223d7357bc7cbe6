# What somebody types first: an image, chosen or made, becomes a block device; without the driver, an NBD server.
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"

# serve COMMAND...: starts it in the background and waits for the two lines that it prints.
serve() {
  corral_output=$(mktemp -p /run corral-XXXXXX)
  env --default-signal=INT "$@" > "$corral_output" 2> "$corral_output.err" < /dev/null &
  server=$!
  local tries
  for ((tries = 0; tries < 1200; tries++)); do
    grep -q '^Next' "$corral_output" && break
    kill -0 "$server" 2> /dev/null || fail "it ended: $(cat "$corral_output" "$corral_output.err")"
    sleep 0.05
  done
  cat "$corral_output"
  [ "$tries" -lt 1200 ] || fail "nothing is served after 60 s: $(cat "$corral_output.err")"
  say "serving"
}

serve node "$CORRAL/.tools/start.mjs"
device=/dev/ublkb0
grep -qx "corral-sample\.qcow2, 1 GiB, is the block device $device (ublk)\. Ctrl-C ends it\." "$corral_output" ||
  fail "it does not say what it made"
[ -b "$device" ] || fail "no $device"
# What it says to type next works.
next=$(sed -n 's/^Next.*: //p' "$corral_output")
say "$next"
$next
kill -INT "$server"
server_ends_well
qemu-img check corral-sample.qcow2
qemu-img convert -O raw corral-sample.qcow2 sample.raw
fsck.ext4 -fn sample.raw

corral create image.qcow2 64M
serve "${corral_command[@]}" serve --read-only image.qcow2
[ "$(blockdev --getro "$device")" = 1 ] || fail "$device is writable"
# It served what was there; a reader changes nothing.
kill -TERM "$server"
server_ends_well

rmmod ublk_drv
serve "${corral_command[@]}" serve image.qcow2
grep -q 'is served over NBD (ublk: .*modprobe ublk_drv' "$corral_output" || fail "it does not say why it is NBD"
next=$(sed -n 's/^Next: //p' "$corral_output")
say "$next"
eval "$next"
kill -INT "$server"
server_ends_well
modprobe ublk_drv

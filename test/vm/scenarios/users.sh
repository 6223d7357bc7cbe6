# A user who is not root makes a device, uses it, looks at it and ends it; another one may do nothing with it.
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"
# In the place of udev, and of its rules (host/node/systemd): each device becomes its owner's.
give_nodes() {
  local node owner
  while true; do
    for node in /dev/ublk[bc][0-9]*; do
      [ "$(stat -c %u "$node" 2> /dev/null)" = 0 ] || continue
      owner=$(corral list --owner "$node" 2> /dev/null) && chown "${owner/ /:}" "$node"
    done
    sleep 0.1
  done
}
chmod 0666 /dev/ublk-control
for user in 1001 1002; do
  mkdir -p "home$user"
  chown "$user:$user" "home$user"
  chmod 0700 "home$user"
done
first=(env XDG_RUNTIME_DIR="$SCRATCH/home1001" setpriv --reuid=1001 --regid=1001 --clear-groups)
second=(env XDG_RUNTIME_DIR="$SCRATCH/home1002" setpriv --reuid=1002 --regid=1002 --clear-groups)
root_command=("${corral_command[@]}")
# By a path that does not lead through somebody's home.
program=$(mktemp -d /run/program.XXXXXX)
mount -o bind "$CORRAL" "$program"
user_command=("${root_command[@]/#$CORRAL/$program}")
image=$SCRATCH/home1001/disk.qcow2
"${first[@]}" "${user_command[@]}" create "$image" 64M

# Without a rule the device is nobody's, and that is said. Root takes it away.
[ -z "$(corral list)" ] || fail "there are devices at the beginning"
refuses 'did not become yours' "${first[@]}" "${user_command[@]}" attach "$image"
for node in /dev/ublkc*; do corral detach "/dev/ublkb${node#/dev/ublkc}"; done
refuses 'Only the devices of root' "${first[@]}" "${user_command[@]}" attach --recovery fail "$image"

give_nodes &
giver=$!
corral_command=("${first[@]}" "${user_command[@]}")
attach "$image"
[ "$(corral list --owner "$device")" = '1001 1001' ] || fail "the owner of $device is $(corral list --owner "$device")"
head -c 4M /dev/urandom > data
chmod 0644 data
"${first[@]}" dd if=data of="$device" bs=64k oflag=direct conv=fsync status=none
"${first[@]}" cmp -n $((4 << 20)) data "$device"
corral stat "$device" | grep -q . || fail "stat says nothing"
corral list | grep -q "^$device " || fail "list does not tell of $device"
corral snapshot -c first "$device"

# Somebody else neither sees it nor reads it nor ends it; root does.
corral_command=("${second[@]}" "${user_command[@]}")
[ -z "$(corral list)" ] || fail "another user sees $(corral list)"
refuses 'no ublk device' "${corral_command[@]}" detach "$device"
refuses 'ermission denied' "${second[@]}" dd if="$device" of=/dev/null count=1
corral_command=("${root_command[@]}")
corral list | grep -q "^$device " || fail "root does not see $device"
"${first[@]}" dd if=data of="$device" bs=64k seek=64 oflag=direct status=none

corral_command=("${first[@]}" "${user_command[@]}")
detach
kill $giver
wait $giver || true
qemu-img check "$image"
qemu-img convert -O raw "$image" disk.raw
cmp -n $((4 << 20)) data disk.raw
cmp -i 0:$((4 << 20)) -n $((4 << 20)) data disk.raw
corral_command=("${root_command[@]}")

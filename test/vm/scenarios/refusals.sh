# What attach says when it cannot: one line and status 1, whatever the reason.
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"
attach_command=("${corral_command[@]}" attach)
corral create good.qcow2 64M

# As nobody, through a path that does not lead through somebody's home.
chmod 1777 "$SCRATCH"
chmod 666 good.qcow2
program=$(mktemp -d /run/program.XXXXXX)
mount -o bind "$CORRAL" "$program"
refuses 'root|permi|privilege' \
  setpriv --reuid=65534 --regid=65534 --clear-groups "${attach_command[@]/#$CORRAL/$program}" "$SCRATCH/good.qcow2"

rmmod ublk_drv
refuses 'ublk' "${attach_command[@]}" good.qcow2
modprobe ublk_drv

refuses 'missing\.qcow2.*(not|no such)|(not|no such).*missing\.qcow2' "${attach_command[@]}" missing.qcow2

head -c 1M /dev/urandom > random.qcow2
refuses 'qcow2' "${attach_command[@]}" random.qcow2

attach good.qcow2
refuses 'good\.qcow2.*(lock|in use)|(lock|in use).*good\.qcow2' "${attach_command[@]}" good.qcow2
dd if=/dev/urandom of="$device" bs=1M count=1 oflag=direct status=none
detach

mkdir read-only
mount -o bind "$SCRATCH" read-only
mount -o remount,bind,ro read-only
refuses 'read-only' "${attach_command[@]}" read-only/good.qcow2

attach --read-only read-only/good.qcow2
[ "$(blockdev --getro "$device")" = 1 ] || fail "$device is writable"
if dd if=/dev/zero of="$device" bs=4k count=1 oflag=direct 2> /run/dd; then fail "a write to $device succeeded"; fi
dd if="$device" of=/dev/null bs=1M count=1 iflag=direct status=none
detach
umount read-only
qemu-img check good.qcow2

# The guest itself has what the other scenarios use; and what the doctor says where everything is there, where the module is
# not loaded, and to somebody who is not root.
# usage: doctor.sh RELEASE  (of the kernel)
. "$CORRAL/test/vm/guest/common.bash"
[ "$(uname -r)" = "$1" ] || fail "this is Linux $(uname -r)"
[ -d /sys/module/ublk_drv ] || fail "ublk_drv is not loaded"
[ -c /dev/ublk-control ] || fail "no /dev/ublk-control"
[ "$(id -u)" = 0 ] || fail "not root"
for command in fio qemu-img mkfs.ext4 fsck.ext4 mkfs.xfs xfs_repair setpriv tar sha256sum; do
  command -v "$command" > /dev/null || fail "no $command in the guest"
done
touch "$SHARED/writable" "$SCRATCH/writable"
cd "$SCRATCH"

# doctor_says STATUS PATTERN...: that exit status, and a line for each pattern.
doctor_says() {
  local expected=$1 output status=0 pattern
  shift
  output=$("${doctor[@]}" 2>&1) || status=$?
  [ "$status" = "$expected" ] || fail "exit status $status instead of $expected: $output"
  for pattern in "$@"; do
    grep -qE -- "$pattern" <<< "$output" || fail "no line '$pattern' in: $output"
  done
  say "$(tail -n 1 <<< "$output")"
}

doctor=("${corral_command[@]}" doctor)
doctor_says 0 '^ok +io_uring +allowed' '^ok +ublk driver +loaded' '^ok +/dev/ublk-control' \
  '^ok +ublk features .*ioctl-encoded' 'can be attached'

# What the doctor promises.
corral create disk.qcow2 64M
attach disk.qcow2
detach

rmmod ublk_drv
doctor_says 1 '^missing +ublk driver +there, but not loaded' 'modprobe ublk_drv' 'cannot be attached'
modprobe ublk_drv

echo 2 > /proc/sys/kernel/io_uring_disabled
doctor_says 1 '^missing +io_uring +allowed for nobody' 'sysctl kernel.io_uring_disabled=0'
echo 0 > /proc/sys/kernel/io_uring_disabled

# As nobody, through a path that does not lead through somebody's home.
program=$(mktemp -d /run/program.XXXXXX)
mount -o bind "$CORRAL" "$program"
doctor=(prlimit --memlock=65536 setpriv --reuid=65534 --regid=65534 --clear-groups "${doctor[@]/#$CORRAL/$program}")
doctor_says 1 '^missing +/dev/ublk-control +not permitted' 'run it as root' '^limited +locked memory +64 KiB'

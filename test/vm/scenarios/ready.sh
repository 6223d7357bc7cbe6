# The guest itself: the driver is there, and so are the programs that the other scenarios use.
. "$CORRAL/test/vm/guest/common.bash"

[ "$(uname -r)" = "$1" ] || fail "this is Linux $(uname -r)"
[ -d /sys/module/ublk_drv ] || fail "ublk_drv is not loaded"
[ -c /dev/ublk-control ] || fail "no /dev/ublk-control"
ls -l /dev/ublk-control
[ "$(id -u)" = 0 ] || fail "not root"

node --version
for command in fio qemu-img mkfs.ext4 fsck.ext4 mkfs.xfs xfs_repair setpriv tar sha256sum; do
  command -v "$command" || fail "no $command in the guest"
done
touch "$SHARED/writable" "$SCRATCH/writable"

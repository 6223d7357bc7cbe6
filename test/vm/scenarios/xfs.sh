# Another file system with other habits: its log, its allocation groups, its own idea of a repair.
# usage: xfs.sh ARCHIVE CHECKSUMS
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
folder=/run/files

corral create "$image" 1G
attach "$image"
mkfs.xfs -q "$device"
mkdir -p $folder
mount "$device" $folder
tar -C $folder -xf "$1"
umount $folder
say "filled"
xfs_repair -n "$device" > /run/repair 2>&1 || fail "xfs_repair: $(cat /run/repair)"
detach

# A server that knows nothing of the first one's caches.
attach "$image"
mount "$device" $folder
verify_checksums $folder "$2"
umount $folder
detach
qemu-img check "$image"

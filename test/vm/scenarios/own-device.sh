# A server whose image lies on its own device would wait for itself: it is refused, and works when that has an end. So is
# the end of a device that holds swap space.
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"
folder=$SCRATCH/folder
mkdir "$folder"
corral create "$folder/image.qcow2" 256M
attach --recovery reissue "$folder/image.qcow2"
own=$device
mkfs.ext4 -q "$device"
# What is in the folder is out of sight from now on, and the image's name leads to the device.
mount "$device" "$folder"
sync
kill -KILL "$server"
wait "$server" 2> /dev/null || true
refuses 'wait for itself' "${corral_command[@]}" recover
# It leaves the tree at once, and ends when what it writes has been taken.
umount -l "$folder" &
unmounting=$!
while grep -q "^$own " /proc/mounts; do sleep 0.05; done
recover "$own"
[ "$device" = "$own" ] || fail "$device was recovered"
wait $unmounting
kill -TERM "$server"
server_ends_well

# One device on another one.
attach "$folder/image.qcow2"
fsck.ext4 -fn "$device"
mount "$device" "$folder"
corral create "$folder/inner.qcow2" 16M
outer=$device outer_server=$server outer_output=$corral_output
# Another process may: it can end without the first one.
attach "$folder/inner.qcow2"
dd if=/dev/urandom of="$device" bs=1M count=4 oflag=direct status=none
kill -TERM "$server"
server_ends_well
umount "$folder"
device=$outer server=$outer_server corral_output=$outer_output
kill -TERM "$server"
server_ends_well
qemu-img check "$folder/image.qcow2"

# What programs have on a device as memory may be its server's own.
corral create swap.qcow2 64M
node "$CORRAL/test/vm/guest/swap.mjs" swap.qcow2
qemu-img check swap.qcow2

# The kernel's own NBD client on our server: verified load on two connections, a file system that is trimmed, a disk that
# becomes longer, and a client that goes away with requests in flight.
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"
printf '%s\n' 'I/O error' 'nbd0: Receive control failed' > /run/expected-messages
modprobe nbd
corral create image.qcow2 256M
socket=$SCRATCH/nbd.sock
device=$socket
corral_output=$(mktemp -p /run corral-XXXXXX)
env --default-signal=INT "${corral_command[@]}" serve --nbd --socket "$socket" -x disk image.qcow2 > "$corral_output" 2> "$corral_output.err" &
server=$!
timeout 60 bash -c "until [ -S $socket ]; do sleep 0.05; done" || fail "no socket: $(cat "$corral_output.err")"
node=/dev/nbd0

nbd-client -unix "$socket" $node -N disk -C 2 -b 4096 > /run/client.log 2>&1 || fail "$(cat /run/client.log)"
[ "$(blockdev --getsize64 $node)" = $((256 << 20)) ] || fail "$node has $(blockdev --getsize64 $node) bytes"
fio --name=deep --filename=$node --direct=1 --ioengine=io_uring --iodepth=32 --size=32m --rw=randwrite --bsrange=4k-512k \
  --blockalign=4k --verify=crc32c --verify_fatal=1 --output=/run/fio.log || fail "depth 32: $(cat /run/fio.log)"
fio --name=lone --filename=$node --direct=1 --ioengine=io_uring --iodepth=1 --offset=40m --size=2m --rw=randwrite --bs=4k \
  --verify=crc32c --verify_fatal=1 --output=/run/fio.log || fail "depth 1: $(cat /run/fio.log)"

mkfs.ext4 -q $node
mkdir folder
mount $node folder
head -c 64M /dev/urandom > folder/noise
sum=$(sha256sum < folder/noise)
sync
full=$(du -m image.qcow2 | cut -f 1)
head -c 64M /dev/urandom > folder/more
sync
rm folder/more
# What was freed can be trimmed when the journal knows of it.
sync
fstrim -v folder
sync
trimmed=$(du -m image.qcow2 | cut -f 1)
[ "$trimmed" -lt $((full + 16)) ] || fail "the trim gave too little back: $full MiB, then $trimmed"
umount folder
nbd-client -d $node > /dev/null

# Another client finds it all, and goes away while it is served.
nbd-client -unix "$socket" $node -N disk -b 4096 > /run/client.log 2>&1 || fail "$(cat /run/client.log)"
fsck.ext4 -fn $node > /run/fsck.log || fail "$(cat /run/fsck.log)"
mount -o ro $node folder
[ "$(sha256sum < folder/noise)" = "$sum" ] || fail "the file is another one"
umount folder
fio --name=load --filename=$node --allow_file_create=0 --direct=1 --offset=200m --size=32m --rw=randwrite --bs=64k --iodepth=32 \
  --ioengine=io_uring --time_based --runtime=60 > /run/fio.log 2>&1 &
load=$!
timeout 60 bash -c "until [ \$(awk '{ print \$2 }' /sys/block/nbd0/inflight) -ge 8 ]; do sleep 0.02; done" || fail "no load: $(cat /run/fio.log)"
nbd-client -d $node > /dev/null
! wait "$load" || fail "fio did not notice"
kill -0 "$server" || fail "the server ended: $(cat "$corral_output.err")"
# It had answers for that client, and says what became of them.
! grep -v 'client [0-9]*: the connection broke' "$corral_output.err" || fail "the server complains of something else"
: > "$corral_output.err"
kill -TERM "$server"
server_ends_well
qemu-img check image.qcow2
rmmod nbd

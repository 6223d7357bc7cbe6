# Devices come and go, twenty of one process and some of their own: nothing piles up, in the kernel or beside it.
# usage: many-times.sh COUNT
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
corral create "$image" 64M
[ "$(corral list --output json | tr -d ' \n')" = '[]' ] || fail "a device before the first: $(corral list)"

count_tasks() { ls -d /proc/[0-9]*/task/[0-9]* | wc -l; }
count_files() { cut -f 1 /proc/sys/fs/file-nr; }

# The first server leaves what the kernel keeps for good.
attach "$image"
corral list --output json | tee /run/list
grep -q "\"$device\"" /run/list && grep -q "$server" /run/list || fail "list does not know $device of $server"
detach
sleep 0.5
tasks=$(count_tasks) files=$(count_files)

node "$CORRAL/test/vm/guest/rounds.mjs" "$image" "$1"
say "$1 rounds in one process"
attach "$image"
[ "$device" = /dev/ublkb0 ] || fail "the last one is $device: an earlier one is still there"
kill -TERM "$server"
server_ends_well

sleep 0.5
say "tasks: $tasks, then $(count_tasks); open files: $files, then $(count_files)"
[ "$(count_tasks)" -lt $((tasks + 10)) ] || fail "threads pile up"
[ "$(count_files)" -lt $((files + 50)) ] || fail "open files pile up"
qemu-img check "$image"

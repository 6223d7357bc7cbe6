# Devices come and go: after twenty of them nothing has piled up, in the kernel or beside it.
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
corral create "$image" 64M
[ "$(corral list --output json | tr -d ' \n')" = '[]' ] || fail "a device before the first: $(corral list)"

count_tasks() { ls -d /proc/[0-9]*/task/[0-9]* | wc -l; }
count_files() { cut -f 1 /proc/sys/fs/file-nr; }

for round in $(seq 20); do
  attach "$image"
  [ "$device" = /dev/ublkb0 ] || fail "round $round has $device: an earlier one is still there"
  dd if=/dev/urandom of="$device" bs=64k count=1 seek="$round" oflag=direct status=none
  if [ $((round % 10)) = 0 ]; then
    corral list --output json | tee /run/list
    grep -q "\"$device\"" /run/list && grep -q "$server" /run/list || fail "list does not know $device of $server"
    detach
  else
    kill -TERM "$server"
    server_ends_well > /dev/null
  fi
  # The first round leaves what the kernel keeps for good.
  [ "$round" != 1 ] || { sleep 0.5; tasks=$(count_tasks) files=$(count_files); }
done

[ "$(corral list --output json | tr -d ' \n')" = '[]' ] || fail "devices after the last: $(corral list)"
sleep 0.5
say "tasks: $tasks, then $(count_tasks); open files: $files, then $(count_files)"
[ "$(count_tasks)" -lt $((tasks + 10)) ] || fail "threads pile up"
[ "$(count_files)" -lt $((files + 50)) ] || fail "open files pile up"
qemu-img check "$image"

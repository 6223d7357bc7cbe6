# A device ends with reads and writes in flight: its server is asked to end, or killed, over each data path; and one of two
# serving threads of a process dies, which costs the other one nothing.
# usage: ends.sh PATH...
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"
printf '%s\n' 'I/O error' > /run/expected-messages
corral create image.qcow2 256M

mixed_load() {
  fio --name=load --filename="$device" --allow_file_create=0 --direct=1 --size=128m --rw=randrw --bsrange=4k-256k \
    --blockalign=4k --iodepth=32 --ioengine=io_uring --time_based --runtime=300 > /run/fio.log 2>&1 &
  load=$!
  local tries in_flight=0 done=0
  for ((tries = 0; tries < 3000; tries++)); do
    kill -0 "$load" 2> /dev/null || fail "fio ended too early: $(cat /run/fio.log)"
    read -r _ _ _ _ done _ < "/sys/block/${device##*/}/stat"
    read -r _ in_flight < "/sys/block/${device##*/}/inflight"
    [ "$done" -ge 100 ] && [ "$in_flight" -ge 4 ] && break
    sleep 0.02
  done
  [ "$tries" -lt 3000 ] || fail "the load never got going: $done writes"
}

for path in "$@"; do
  for signal in TERM KILL; do
    attach --data-path "$path" image.qcow2
    mixed_load
    kill -$signal "$server"
    if [ $signal = TERM ]; then
      server_ends_well
    else
      wait "$server" 2> /dev/null || true
      timeout 30 bash -c "while [ -e $device ]; do sleep 0.05; done" || fail "$device is still there"
      corral detach "$device"
    fi
    ! wait "$load" || fail "fio did not notice that its device is gone"
    status=0
    qemu-img check -q image.qcow2 || status=$?
    # 3: clusters that nothing refers to, which is all that such an end may cost; in order, it costs nothing.
    [ "$status" = 0 ] || [ "$status $signal" = '3 KILL' ] || fail "$path, SIG$signal: qemu-img check says $status"
    qemu-img check -q -r leaks image.qcow2
    say "$path, SIG$signal"
  done
done

corral create other.qcow2 64M
node "$CORRAL/test/vm/guest/lost-thread.mjs" image.qcow2 other.qcow2
for image in image.qcow2 other.qcow2; do
  status=0
  qemu-img check -q $image || status=$?
  [ "$status" = 0 ] || [ "$status $image" = '3 image.qcow2' ] || fail "$image: qemu-img check says $status"
done

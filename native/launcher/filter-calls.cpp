#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <vector>

#include "confine.hpp"

namespace corral::launcher {

namespace {

#if defined(__x86_64__)
constexpr std::uint32_t ARCHITECTURE = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t ARCHITECTURE = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t ARCHITECTURE = 0;
#endif

/**
 * The numbers that this was written for: from 424 on they are the same everywhere. What is newer is not needed, nor are the
 * calls of the x32 ABI, a second name for everything far behind.
 */
constexpr std::uint32_t FIRST_UNKNOWN = 463;

/** Nobody who only reads, computes and answers needs them. */
constexpr int DENIED[] = {
    // The network, and every other way to a process that already runs.
    SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4, SYS_sendto, SYS_sendmsg,
    SYS_sendmmsg, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, SYS_kill, SYS_tkill,
    SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal, SYS_shmget, SYS_shmat, SYS_shmctl, SYS_semget,
    SYS_semop, SYS_semctl, SYS_msgget, SYS_msgsnd, SYS_msgrcv, SYS_msgctl, SYS_mq_open, SYS_mq_unlink,
    434 /* pidfd_open */, 438 /* pidfd_getfd */, 440 /* process_madvise */, 448 /* process_mrelease */,
    // More processes, and other programs: `execve` has a rule of its own.
    SYS_execveat, SYS_unshare, SYS_setns,
#ifdef SYS_fork
    SYS_fork, SYS_vfork,
#endif
    // Other users, other priorities.
    SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setgroups, SYS_setfsuid,
    SYS_setfsgid, SYS_capset, SYS_setpriority, SYS_sched_setscheduler, SYS_sched_setattr,
    // Changes of files that Landlock says nothing of.
    SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat, SYS_utimensat, SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr,
    SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr, SYS_fallocate, SYS_ftruncate, SYS_truncate, SYS_mknodat,
    SYS_mkdirat, SYS_unlinkat, SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_fsync, SYS_sync, SYS_flock,
    452 /* fchmodat2 */,
#ifdef SYS_chmod
    SYS_chmod, SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_futimesat, SYS_mknod, SYS_mkdir, SYS_rmdir, SYS_unlink,
    SYS_rename, SYS_renameat, SYS_link, SYS_symlink, SYS_creat,
#endif
    // The system itself.
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_keyctl,
    SYS_add_key, SYS_request_key, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot,
    SYS_swapon, SYS_swapoff, SYS_sethostname, SYS_setdomainname, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex,
    SYS_clock_adjtime, SYS_acct, SYS_quotactl, SYS_syslog, SYS_personality, SYS_open_by_handle_at,
    SYS_name_to_handle_at, SYS_memfd_create, SYS_inotify_init1, SYS_fanotify_init, SYS_lookup_dcookie, SYS_vhangup,
    428 /* open_tree */, 429 /* move_mount */, 430 /* fsopen */, 431 /* fsconfig */, 432 /* fsmount */, 433 /* fspick */,
    442 /* mount_setattr */, 443 /* quotactl_fd */, 447 /* memfd_secret */,
};

/** Work that is done without being looked at by a filter. Programs do without where there is none. */
constexpr int MISSING[] = {425 /* io_uring_setup */, 426 /* io_uring_enter */, 427 /* io_uring_register */};

/** Builds a filter from the top down. */
class Filter {
 public:
  Filter() {
    load(offsetof(seccomp_data, arch));
    jumpUnless(BPF_JEQ, ARCHITECTURE, SECCOMP_RET_KILL_PROCESS, true);
    load(offsetof(seccomp_data, nr));
    jumpUnless(BPF_JGE, FIRST_UNKNOWN, error(ENOSYS), false);
  }

  /** This call ends with `answer`. */
  void answer(int call, std::uint32_t answer) { jumpUnless(BPF_JEQ, static_cast<std::uint32_t>(call), answer, false); }

  /** This call ends with `answer` unless an argument is one of these. */
  void answerUnless(int call, int argument, std::initializer_list<std::uint64_t> wanted, std::uint32_t answer) {
    // Past the whole rule for other calls; the lengths are known.
    const auto length = static_cast<std::uint8_t>(wanted.size() * 5 + 1);
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, length));
    const auto low = static_cast<std::uint32_t>(offsetof(seccomp_data, args) + sizeof(std::uint64_t) * argument);
    for (const std::uint64_t value : wanted) {
      load(low);
      code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(value), 0, 3));
      load(low + 4);
      code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(value >> 32), 0, 1));
      code_.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    }
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, answer));
  }

  /** This call ends with `answer` unless all these bits are set in the low half of an argument. */
  void answerWithout(int call, int argument, std::uint32_t bits, std::uint32_t answer) {
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 4));
    load(static_cast<std::uint32_t>(offsetof(seccomp_data, args) + sizeof(std::uint64_t) * argument));
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1));
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, answer));
  }

  SystemError install() {
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog program = {static_cast<unsigned short>(code_.size()), code_.data()};
    if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) return SystemError::last("seccomp");
    return NO_ERROR;
  }

  static constexpr std::uint32_t error(int number) {
    return SECCOMP_RET_ERRNO | (static_cast<std::uint32_t>(number) & SECCOMP_RET_DATA);
  }

 private:
  void load(std::size_t offset) {
    code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset)));
  }

  /** Ends with `answer` where the comparison is false (`expected`) or true. */
  void jumpUnless(int comparison, std::uint32_t value, std::uint32_t answer, bool expected) {
    const std::uint8_t whenTrue = expected ? 1 : 0;
    const std::uint8_t whenFalse = expected ? 0 : 1;
    code_.push_back(BPF_JUMP(static_cast<std::uint16_t>(BPF_JMP | comparison | BPF_K), value, whenTrue, whenFalse));
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, answer));
  }

  std::vector<sock_filter> code_;
};

}  // namespace

SystemError filterCalls(const char* program) {
  if (ARCHITECTURE == 0) return {"seccomp", ENOTSUP};
  constexpr std::uint32_t denied = Filter::error(EPERM);
  Filter filter;
  for (const int call : DENIED) filter.answer(call, denied);
  for (const int call : MISSING) filter.answer(call, Filter::error(ENOSYS));
  // Flags in memory cannot be looked at: the C library falls back to the older call.
  filter.answer(SYS_clone3, Filter::error(ENOSYS));
  filter.answerWithout(SYS_clone, 0, CLONE_THREAD, denied);
  filter.answerUnless(SYS_tgkill, 0, {static_cast<std::uint64_t>(::getpid())}, denied);
  filter.answerUnless(SYS_ioctl, 1, {FIONBIO, FIOCLEX, TCGETS}, Filter::error(ENOTTY));
  // By its address, which means nothing any more in the program that comes: Landlock says what could be executed there.
  filter.answerUnless(SYS_execve, 0, {reinterpret_cast<std::uint64_t>(program)}, denied);
  return filter.install();
}

}  // namespace corral::launcher

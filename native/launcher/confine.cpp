#include "confine.hpp"

#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace corral::launcher {

namespace {

constexpr rlim_t DESCRIPTORS = 64;

bool limit(__rlimit_resource_t resource, rlim_t value) {
  const rlimit both = {value, value};
  return ::setrlimit(resource, &both) == 0;
}

/** A program that root executes gets what is in the bounding set: empty it. Without the right to, there is nothing in it. */
void emptyBoundingSet() {
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
    ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
}

}  // namespace

SystemError limitResources(const Limits& limits) {
  const bool done = limit(RLIMIT_CORE, 0) && limit(RLIMIT_FSIZE, 0) && limit(RLIMIT_MSGQUEUE, 0) &&
                    limit(RLIMIT_NOFILE, DESCRIPTORS) && limit(RLIMIT_CPU, limits.cpuSeconds) &&
                    limit(RLIMIT_DATA, limits.dataBytes);
  return done ? NO_ERROR : SystemError::last("setrlimit");
}

SystemError dropPrivileges() {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return SystemError::last("PR_SET_PDEATHSIG");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return SystemError::last("PR_SET_NO_NEW_PRIVS");
  emptyBoundingSet();
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capset, &header, none) != 0) return SystemError::last("capset");
  return NO_ERROR;
}

}  // namespace corral::launcher

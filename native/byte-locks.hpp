// Locks on single bytes of a file that belong to the open file and not to the process (fcntl(2), F_OFD_SETLK).
//
// Which bytes mean what is the business of host/node/file-lock.ts.

#pragma once

#include <fcntl.h>

#include <cstdint>

#include "result.hpp"

namespace corral {

namespace byteLocks {

inline struct flock describe(short type, int64_t offset, int64_t length) {
  struct flock range {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = offset;
  range.l_len = length;
  return range;
}

/** Takes a shared lock; EAGAIN when somebody holds an exclusive one there. */
inline SystemError share(int number, int64_t offset, int64_t length) {
  struct flock range = describe(F_RDLCK, offset, length);
  if (::fcntl(number, F_OFD_SETLK, &range) == 0) return NO_ERROR;
  // Both errnos say the same, by POSIX.
  return {"lock", errno == EACCES ? EAGAIN : errno};
}

inline SystemError release(int number, int64_t offset, int64_t length) {
  struct flock range = describe(F_UNLCK, offset, length);
  return ::fcntl(number, F_OFD_SETLK, &range) == 0 ? NO_ERROR : SystemError::last("unlock");
}

/** True when any other open file holds a lock, shared or not, in this range. */
inline Result<bool> heldByOthers(int number, int64_t offset, int64_t length) {
  struct flock range = describe(F_WRLCK, offset, length);
  if (::fcntl(number, F_OFD_GETLK, &range) != 0) return SystemError::last("test lock");
  return range.l_type != F_UNLCK;
}

}  // namespace byteLocks

}  // namespace corral

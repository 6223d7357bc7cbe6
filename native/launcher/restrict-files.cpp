#include <elf.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "../owned.hpp"
#include "confine.hpp"

namespace corral::launcher {

namespace {

// From linux/landlock.h, of which older systems' headers know the first part or nothing.
constexpr long CREATE_RULESET = 444;
constexpr long ADD_RULE = 445;
constexpr long RESTRICT_SELF = 446;
constexpr std::uint32_t ASK_VERSION = 1;
constexpr int RULE_PATH_BENEATH = 1;

constexpr std::uint64_t EXECUTE = 1 << 0;
constexpr std::uint64_t READ_FILE = 1 << 2;
/** All rights of a version: the first has bits 0 to 12. */
constexpr std::uint64_t RIGHTS_1 = (1 << 13) - 1;
constexpr std::uint64_t REFER = 1 << 13;         // 2
constexpr std::uint64_t TRUNCATE = 1 << 14;      // 3
constexpr std::uint64_t TCP = 3;                 // 4: bind and connect
constexpr std::uint64_t IOCTL_DEVICE = 1 << 15;  // 5
constexpr std::uint64_t SCOPES = 3;              // 6: abstract sockets and signals

struct RulesetAttributes {
  std::uint64_t files;
  std::uint64_t network;
  std::uint64_t scoped;
};
static_assert(sizeof(RulesetAttributes) == 24);

struct PathBeneath {
  std::uint64_t allowed;
  std::int32_t parent;
} __attribute__((packed));
static_assert(sizeof(PathBeneath) == 12);

/** Where programs find the libraries that they are linked with. */
constexpr std::array LIBRARIES = {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"};

RulesetAttributes everything(long version) {
  RulesetAttributes attributes = {RIGHTS_1, 0, 0};
  if (version >= 2) attributes.files |= REFER;
  if (version >= 3) attributes.files |= TRUNCATE;
  if (version >= 4) attributes.network = TCP;
  if (version >= 5) attributes.files |= IOCTL_DEVICE;
  if (version >= 6) attributes.scoped = SCOPES;
  return attributes;
}

/** What is not there need not be allowed. */
bool allow(const FileDescriptor& ruleset, const char* path, std::uint64_t rights) {
  const FileDescriptor parent{::open(path, O_PATH | O_CLOEXEC)};
  if (!parent) return errno == ENOENT;
  const PathBeneath rule = {rights, parent.number()};
  return ::syscall(ADD_RULE, ruleset.number(), RULE_PATH_BENEATH, &rule, 0) == 0;
}

/** The loader that a 64-bit ELF program asks for; nothing for one that needs none. */
std::optional<std::string> interpreterOf(const std::string& program) {
  const FileDescriptor file{::open(program.c_str(), O_RDONLY | O_CLOEXEC)};
  Elf64_Ehdr header;
  if (!file || ::pread(file.number(), &header, sizeof header, 0) != sizeof header) return std::nullopt;
  for (int index = 0; index < header.e_phnum; index++) {
    Elf64_Phdr segment;
    const auto offset = static_cast<off_t>(header.e_phoff + std::uint64_t{header.e_phentsize} * index);
    if (::pread(file.number(), &segment, sizeof segment, offset) != sizeof segment) return std::nullopt;
    if (segment.p_type != PT_INTERP || segment.p_filesz == 0 || segment.p_filesz > 4096) continue;
    std::string path(segment.p_filesz, '\0');
    const auto length = static_cast<ssize_t>(path.size());
    if (::pread(file.number(), path.data(), path.size(), static_cast<off_t>(segment.p_offset)) != length) break;
    return path.c_str();
  }
  return std::nullopt;
}

}  // namespace

SystemError restrictFiles(const std::string& program) {
  const long version = ::syscall(CREATE_RULESET, nullptr, 0, ASK_VERSION);
  if (version < 1) return SystemError::last("Landlock");
  const RulesetAttributes attributes = everything(version);
  const FileDescriptor ruleset{
      static_cast<int>(::syscall(CREATE_RULESET, &attributes, sizeof attributes, 0))};
  if (!ruleset) return SystemError::last("landlock_create_ruleset");
  const auto interpreter = interpreterOf(program);
  bool allowed = allow(ruleset, program.c_str(), EXECUTE | READ_FILE);
  if (interpreter) allowed = allowed && allow(ruleset, interpreter->c_str(), EXECUTE | READ_FILE);
  for (const char* path : LIBRARIES) allowed = allowed && allow(ruleset, path, READ_FILE);
  if (!allowed) return SystemError::last("landlock_add_rule");
  if (::syscall(RESTRICT_SELF, ruleset.number(), 0) != 0) return SystemError::last("landlock_restrict_self");
  return NO_ERROR;
}

}  // namespace corral::launcher

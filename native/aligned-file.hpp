// A file that is open past the page cache (O_DIRECT), for transfers that such a file does not take as they are.
//
// It takes whole blocks, to and from memory that begins where its device wants. What is not so goes through whole blocks of
// memory here, by plain calls: of a block that a write covers only in part the rest is read first and written again. The
// thread waits meanwhile, so nothing else of this ring can start that touches the same block; and what is under way touches
// none of its bytes, as the core never has two operations at once on bytes of which one is written.

#pragma once

#include <cstdint>

#include "owned.hpp"
#include "result.hpp"
#include "running-operation.hpp"

namespace corral {

class AlignedFile {
 public:
  /** @param zeros ZEROS_LENGTH zero bytes; both the descriptor and the zeros must outlive the next call of this */
  SystemError setFile(int number, uint8_t* zeros);

  /** Whether the file would not take the rest of the operation as it is. Never of a file in the page cache. */
  bool refuses(const RunningOperation& operation) const;

  /**
   * Carries out the rest of an operation that `refuses` names, and waits as long as it takes. Bytes moved, fewer than the rest
   * only where a read meets the end of the file; or a negative errno. A file that does not end at a block becomes longer
   * by zeros when its last block is written.
   */
  int32_t carryOut(const RunningOperation& operation);

 private:
  int32_t readPiece(const RunningOperation& operation, uint64_t done);
  int32_t writePiece(const RunningOperation& operation, uint64_t done);
  int64_t readBlocks(uint64_t start, uint8_t* target, uint64_t length) const;
  int32_t fillBlock(uint64_t start, uint8_t* block) const;
  uint64_t blockStart(uint64_t offset) const { return offset & ~(block_ - 1); }
  uint64_t blockEnd(uint64_t offset) const { return (offset + block_ - 1) & ~(block_ - 1); }

  int number_ = -1;
  uint8_t* zeros_ = nullptr;
  /** What offsets and lengths, and addresses, must be multiples of; powers of two, 0 when anything goes. */
  uint64_t block_ = 0;
  uint64_t memoryAlignment_ = 0;
  Mapping bounce_;
};

}  // namespace corral

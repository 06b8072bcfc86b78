package wire

import "fmt"

// Block transfer messages: the first byte of an RPC's body or of an upload's metadata
// (org.apache.spark.network.shuffle.protocol.BlockTransferMessage.Type).
const (
	blockUpload       = 1  // UploadBlock
	blockUploadStream = 6  // UploadBlockStream
	blockGetLocalDirs = 10 // GetLocalDirsForExecutors
	blockLocalDirs    = 11 // LocalDirsForExecutors
)

// UploadBlockStream encodes the metadata of an UploadStream: the block's name and the Java object that
// says how to store it.
func UploadBlockStream(blockID string, metadata []byte) []byte {
	return appendBytes(appendBytes([]byte{blockUploadStream}, blockID), metadata)
}

// DecodeUploadBlockStream is the receiving side of UploadBlockStream. metadata shares memory with message.
func DecodeUploadBlockStream(message []byte) (blockID string, metadata []byte, err error) {
	c := openBlockMessage(message, blockUploadStream)
	blockID, metadata = c.string(), c.bytes()
	return blockID, metadata, c.end()
}

// UploadBlock encodes the body of an RPC that uploads a small block as a whole. Spark (3.4 to 4.3)
// looks neither at app nor at exec.
func UploadBlock(app, exec, blockID string, metadata, block []byte) []byte {
	m := appendBytes(appendBytes(appendBytes([]byte{blockUpload}, app), exec), blockID)
	return appendBytes(appendBytes(m, metadata), block)
}

// BlockUpload is a decoded UploadBlock.
type BlockUpload struct {
	App, Executor, BlockID string
	Metadata, Block        []byte
}

// DecodeUploadBlock is the receiving side of UploadBlock. The byte slices share memory with message.
func DecodeUploadBlock(message []byte) (BlockUpload, error) {
	c := openBlockMessage(message, blockUpload)
	m := BlockUpload{App: c.string(), Executor: c.string(), BlockID: c.string(), Metadata: c.bytes(), Block: c.bytes()}
	return m, c.end()
}

// GetLocalDirs encodes the question for the folders of executors. A block manager answers it only when
// asked for itself alone, with its own application id (NettyBlockRpcServer): the answer proves who it is.
func GetLocalDirs(app string, execs ...string) []byte {
	return appendStrings(appendBytes([]byte{blockGetLocalDirs}, app), execs)
}

// DecodeGetLocalDirs is the receiving side of GetLocalDirs.
func DecodeGetLocalDirs(message []byte) (app string, execs []string, err error) {
	c := openBlockMessage(message, blockGetLocalDirs)
	app, execs = c.string(), c.strings()
	return app, execs, c.end()
}

// Folders are the blockmgr-… folders of one executor.
type Folders struct {
	Executor string
	Dirs     []string
}

// LocalDirs encodes the answer to GetLocalDirs.
func LocalDirs(all ...Folders) []byte {
	var execs, dirs []string
	for _, f := range all {
		execs, dirs = append(execs, f.Executor), append(dirs, f.Dirs...)
	}
	m := appendInt32(appendStrings([]byte{blockLocalDirs}, execs), len(all))
	for _, f := range all {
		m = appendInt32(m, len(f.Dirs))
	}
	return appendStrings(m, dirs)
}

// DecodeLocalDirs reads the answer to GetLocalDirs: the blockmgr-… folders by executor id, as the
// executor's own process sees them.
func DecodeLocalDirs(message []byte) (map[string][]string, error) {
	c := openBlockMessage(message, blockLocalDirs)
	execs, counts, dirs := c.strings(), c.ints(), c.strings()
	if err := c.end(); err != nil {
		return nil, err
	}
	if len(execs) != len(counts) {
		return nil, fmt.Errorf("%w: %d executors, %d counts", ErrProtocol, len(execs), len(counts))
	}
	found := make(map[string][]string, len(execs))
	for i, exec := range execs {
		n := counts[i]
		if n < 0 || n > len(dirs) {
			return nil, fmt.Errorf("%w: %d folders of executor %q, %d left", ErrProtocol, n, exec, len(dirs))
		}
		found[exec], dirs = dirs[:n:n], dirs[n:]
	}
	if len(dirs) > 0 {
		return nil, fmt.Errorf("%w: %d folders too many", ErrProtocol, len(dirs))
	}
	return found, nil
}

func openBlockMessage(message []byte, want byte) *cursor {
	c := &cursor{rest: message}
	if got := c.byte(); c.err == nil && got != want {
		c.fail("block transfer message of type %d, want %d", got, want)
	}
	return c
}

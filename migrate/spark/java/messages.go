package java

import "encoding/binary"

// BlockManagerID names an executor's block manager (o.a.s.storage.BlockManagerId; Lifeboat neither
// sends nor keeps its topology).
type BlockManagerID struct {
	Executor string // executor id; "driver" for the driver's own block manager
	Host     string // host name as Spark knows it
	Port     int    // port of block transfers
}

// diskOnly is StorageLevel.DISK_ONLY as its writeExternal puts it: the flag for disk, and one replica.
func diskOnly() []byte { return []byte{8, 1} }

func (d Dialect) desc(class string, flags byte, fields ...field) *classDesc {
	return &classDesc{name: class, uid: *d.UIDs.of(class), flags: flags, fields: fields}
}

func (d Dialect) externalDesc(class string) *classDesc {
	return d.desc(class, flagExternalizable|flagBlockData)
}

// UploadMetadata is the object that goes with one uploaded shuffle block: stored on disk only, no
// class tag (NettyBlockTransferService.uploadBlock, Spark 3.4 to 4.3).
func (d Dialect) UploadMetadata() []byte {
	w := newWriter()
	d.writeUpload(w)
	return w.buf
}

func (d Dialect) writeUpload(w *writer) {
	if d.UploadClass == classReplication {
		d.writeReplication(w)
		return
	}
	w.object(d.desc(classTuple2, flagSerializable,
		field{'L', "_1", "Ljava/lang/Object;"},
		field{'L', "_2", "Ljava/lang/Object;"}))
	w.external(d.externalDesc(classStorageLevel), diskOnly())
	w.null()
}

func (d Dialect) writeReplication(w *writer) {
	w.object(d.desc(classReplication, flagSerializable,
		field{'Z', "verifySealedChecksum", ""},
		field{'L', "checksum", "Lscala/Option;"},
		field{'L', "classTag", "Lscala/reflect/ClassTag;"},
		field{'L', "level", "Lorg/apache/spark/storage/StorageLevel;"}))
	w.u8(0)
	d.writeNone(w)
	w.null()
	w.external(d.externalDesc(classStorageLevel), diskOnly())
}

// writeNone writes scala.None as Scala 2.13 does: a proxy that names the module's class.
func (d Dialect) writeNone(w *writer) {
	w.object(d.desc(classModuleProxy, flagSerializable, field{'L', "moduleClass", "Ljava/lang/Class;"}))
	none := d.desc(classNone, flagSerializable)
	none.super = d.desc(classOption, flagSerializable)
	w.u8(tcClass)
	w.class(none)
	w.handle()
}

// ExecutorDecommissioning is the message that tells the driver that an executor goes away: from its
// answer on, the driver gives it no task (CoarseGrainedSchedulerBackend, Spark 3.1 and later). The
// answer is a Boolean, see DecodeBoolean.
func (d Dialect) ExecutorDecommissioning(executor string) []byte {
	w := newWriter()
	w.object(d.desc(classDecommission, flagSerializable, field{'L', "executorId", "Ljava/lang/String;"}))
	w.string(executor)
	return w.buf
}

// GetPeers is the message that asks the driver's BlockManagerMaster for the living block managers
// that are not leaving, without the one that asks. That one must be registered exactly so, otherwise
// the answer is empty (BlockManagerMasterEndpoint.getPeers). See DecodePeers.
func (d Dialect) GetPeers(ask BlockManagerID) []byte {
	w := newWriter()
	w.object(d.desc(classGetPeers, flagSerializable,
		field{'L', "blockManagerId", "Lorg/apache/spark/storage/BlockManagerId;"}))
	w.external(d.externalDesc(classBlockManager), ask.external())
	return w.buf
}

// FallbackBlockManager is where Spark looks for what lies in its fallback storage
// (o.a.s.storage.FallbackStorage.FALLBACK_BLOCK_MANAGER_ID, Spark 3.1 to 4.3).
func FallbackBlockManager() BlockManagerID {
	return BlockManagerID{Executor: "fallback", Host: "remote", Port: 7337}
}

// UpdateBlockInfo is the message that tells the driver's BlockManagerMaster that a block lies on disk at a block
// manager; for an index block the driver points the map output there. block is Spark's name of the block, the
// sizes are bytes. The answer is a Boolean, see DecodeBoolean.
func (d Dialect) UpdateBlockInfo(at BlockManagerID, block string, memSize, diskSize int64) []byte {
	b := at.external()
	b = appendUTF(b, block)
	b = append(b, diskOnly()...)
	b = binary.BigEndian.AppendUint64(b, uint64(memSize))
	b = binary.BigEndian.AppendUint64(b, uint64(diskSize))
	b = append(b, 0) // no checksum: read by Spark 4.3 and later, skipped by those before
	w := newWriter()
	w.external(d.externalDesc(classUpdateBlock), b)
	return w.buf
}

// external is what BlockManagerId.writeExternal writes, without topology.
func (id BlockManagerID) external() []byte {
	b := appendUTF(nil, id.Executor)
	b = appendUTF(b, id.Host)
	b = binary.BigEndian.AppendUint32(b, uint32(id.Port))
	return append(b, 0)
}

// RetrieveSparkAppConfig is the message that asks the driver for all Spark properties of the
// application, with the resource profile of the executor that asks (0 is the default profile). The
// answer carries secrets; see DecodeAppConfig.
func (d Dialect) RetrieveSparkAppConfig(profile int) []byte {
	w := newWriter()
	w.object(d.desc(classRetrieveConf, flagSerializable, field{'I', "resourceProfileId", ""}))
	w.u32(uint32(profile))
	return w.buf
}

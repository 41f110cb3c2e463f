package audit

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
)

// An archive is an export of a stretch of the chain (export.go), compressed with gzip. It is cut into blocks, so that
// one record can be read without the ones before it. Each block is a gzip member of its own, and any gzip unpacks the
// whole file. What gzip leaves to its writer is fixed here, and an extra field of each member says what is in it:
//
//	1f 8b 08 04  00 00 00 00  00 ff        gzip, deflate, an extra field; no time, no hint, no system
//	18 00  4b 42  14 00                    24 bytes of extra field: "KB", 20 bytes
//	first     8 bytes                      number of the block's first record
//	records   4 bytes                      how many there are
//	packed    4 bytes                      length of the compressed data
//	sum       4 bytes                      CRC-32C of first, records, packed, the compressed data and the trailer
//	...                                    the compressed data
//	crc, size 8 bytes                      gzip's trailer
//
// All numbers have their low byte first, as in gzip. A block ends before a record, so the first one also holds the
// export's first line and the last one its signed last line. The sum is there because gzip does not look at every bit
// of its own; who vouches for the content are the chain and the signature.
const (
	blockHead    = 36
	blockTrailer = 8
	blockPrefix  = "\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x18\x00KB\x14\x00"
	gzipMagic    = "\x1f\x8b"

	// blockRecords and blockBytes end a block: reading one record unpacks one block, a millisecond or two.
	blockRecords = 256
	blockBytes   = 1 << 20
	// maxBlock bounds a block's text and, as deflate never adds much, its compressed form: the last record may be a
	// long one.
	maxBlock = blockBytes + 2*maxLine
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteArchive writes entries, which must follow each other without a gap from o.After on, as an archive and returns
// the end of the chain that was written. An archive is never partial: o.Keep must be nil.
func WriteArchive(w io.Writer, entries iter.Seq2[Entry, error], o ExportOptions) (Chain, error) {
	out := &packer{w: w, first: o.After.Seq + 1}
	out.deflate, _ = flate.NewWriter(&out.packed, flate.DefaultCompression) // the level is a good one
	end, err := Export(out, func(yield func(Entry, error) bool) {
		for e, err := range entries {
			if err == nil {
				out.begin(e.Seq)
			}
			if !yield(e, err) {
				return
			}
		}
	}, o)
	if err != nil {
		return end, err
	}
	if out.flush(); out.err != nil {
		return end, fmt.Errorf("write archive: %w", out.err)
	}
	return end, nil
}

// packer cuts an export's text into blocks. It keeps the first error.
type packer struct {
	w       io.Writer
	deflate *flate.Writer
	packed  bytes.Buffer

	first   int64
	records uint32
	size    uint32 // of the block's text
	crc     uint32 // of it
	err     error
}

// Write implements io.Writer for Export.
func (p *packer) Write(text []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	p.size += uint32(len(text))
	p.crc = crc32.Update(p.crc, crc32.IEEETable, text)
	return p.deflate.Write(text)
}

// begin is told the number of the record that is written next.
func (p *packer) begin(seq int64) {
	if p.records == blockRecords || p.size >= blockBytes {
		p.flush()
		p.first = seq
	}
	p.records++
}

// flush writes the block.
func (p *packer) flush() {
	if p.err != nil {
		return
	}
	if p.err = p.deflate.Close(); p.err != nil {
		return
	}
	head := append(make([]byte, 0, blockHead), blockPrefix...)
	head = binary.LittleEndian.AppendUint64(head, uint64(p.first))
	head = binary.LittleEndian.AppendUint32(head, p.records)
	head = binary.LittleEndian.AppendUint32(head, uint32(p.packed.Len()))
	p.packed.Write(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, p.crc), p.size)) // never fails
	head = binary.LittleEndian.AppendUint32(head, blockSum(head, p.packed.Bytes()))
	if _, p.err = p.w.Write(head); p.err == nil {
		_, p.err = p.w.Write(p.packed.Bytes())
	}
	p.packed.Reset()
	p.deflate.Reset(&p.packed)
	p.records, p.size, p.crc = 0, 0, 0
}

// blockSum is over what a block's head says and all that follows it.
func blockSum(head, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(head[len(blockPrefix):blockHead-4], castagnoli), castagnoli, body)
}

package audit

import (
	"crypto/sha256"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// FirstChain is the name of the only chain of an embedded store. A cluster has one per node.
const FirstChain = "1"

// hashDomain keeps hashes of this chain apart from any other use of SHA-256.
const hashDomain = "keybrake-audit-v1\n"

// Chain is the growing end of the record: hash_n = SHA-256(domain || hash_{n-1} || bytes_n). It is a value:
// a copy can be tried and thrown away. Not safe for concurrent use.
type Chain struct {
	Name string
	Seq  int64 // number of the last record; 0 for none
	Hash [32]byte
}

// NewChain starts a chain; its first hash is that of its name.
func NewChain(name string) Chain {
	return Chain{Name: name, Hash: sha256.Sum256([]byte(hashDomain + name))}
}

// Entry is a chained record: what a store keeps.
type Entry struct {
	Seq   int64
	At    time.Time
	Key   policy.KeyID
	Call  int64
	Hash  [32]byte
	Bytes []byte
}

// Append numbers, encodes and chains a record. The record's Seq and Chain are set; its At must be, and is
// cut to microseconds in UTC.
func (c *Chain) Append(rec *Record) Entry {
	c.Seq++
	rec.Seq, rec.Chain, rec.At = c.Seq, c.Name, rec.At.UTC().Truncate(time.Microsecond)
	body := rec.AppendJSON(make([]byte, 0, 768))
	c.Hash = Link(c.Hash, body)
	return Entry{Seq: rec.Seq, At: rec.At, Key: rec.Key, Call: rec.Call(), Hash: c.Hash, Bytes: body}
}

// Link is the hash of a record's bytes after the hash of the one before.
func Link(prev [32]byte, body []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(hashDomain))
	h.Write(prev[:])
	h.Write(body)
	var out [32]byte
	h.Sum(out[:0])
	return out
}

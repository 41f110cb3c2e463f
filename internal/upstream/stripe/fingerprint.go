package stripe

import (
	"crypto/sha256"
	"encoding/binary"
)

// fingerprint digests what a call asks for: SHA-256 over the operation's name, the ids of the path, the
// account and the canonical parameters before pinning, each with its length in front (eight bytes, big
// endian), so that no two different calls give the same bytes.
func fingerprint(req *Request, account string, params []byte) [32]byte {
	var space [512]byte
	b := appendSized(space[:0], string(req.Row.Name))
	b = binary.BigEndian.AppendUint64(b, uint64(len(req.IDs)))
	for _, id := range req.IDs {
		b = appendSized(b, id)
	}
	b = appendSized(b, account)
	b = binary.BigEndian.AppendUint64(b, uint64(len(params)))
	b = append(b, params...)
	return sha256.Sum256(b)
}

func appendSized(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...)
}

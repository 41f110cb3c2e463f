package crash

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// switchboard passes packets on between the network devices of hosts, which are one byte of an address to it. A pair of
// hosts without a link gets nothing from each other.
type switchboard struct {
	mu      sync.Mutex
	devices map[byte]*os.File
	links   map[[2]byte]*link
}

// link is what is between two hosts. It knows every connection that began on it since it was cut, as a firewall does:
// what comes of any other is answered with a reset.
type link struct {
	lost  [2]bool // what the lower host sends to the higher, and back
	most  time.Duration
	known map[[2]uint16]bool // ports of the lower and the higher host
}

func newSwitchboard() *switchboard {
	return &switchboard{devices: make(map[byte]*os.File), links: make(map[[2]byte]*link)}
}

// plug adds a host's device, whose packets are passed on until it is closed.
func (s *switchboard) plug(host byte, device *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[host] = device
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := device.Read(buf)
			if err != nil {
				return
			}
			if p := packet(buf[:n]); p.valid() {
				s.pass(p)
			}
		}
	}()
}

// between is the link of two hosts, which is made if there is none.
func (s *switchboard) between(a, b byte) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	pair := [2]byte{min(a, b), max(a, b)}
	if s.links[pair] == nil {
		s.links[pair] = &link{known: make(map[[2]uint16]bool)}
	}
	return s.links[pair]
}

// pass brings a packet to its host, or not.
func (s *switchboard) pass(p packet) {
	from, to := p.from(), p.to()
	s.mu.Lock()
	defer s.mu.Unlock()
	l, device := s.links[[2]byte{min(from, to), max(from, to)}], s.devices[to]
	if l == nil || device == nil {
		return
	}
	d := there
	if from > to {
		d = back
	}
	switch {
	case l.lost[d]:
	case !l.knows(p, d):
		if r := p.reset(); r != nil {
			_, _ = s.devices[from].Write(r) // the network owes nobody anything
		}
	case l.most == 0:
		_, _ = device.Write(p)
	case rand.IntN(10) > 0:
		later := append(packet(nil), p...)
		time.AfterFunc(rand.N(l.most), func() { _, _ = device.Write(later) })
	}
}

// knows reports whether a packet is of a connection that began on this link, or begins one.
func (l *link) knows(p packet, d direction) bool {
	if !p.tcp() {
		return true
	}
	ports := p.ports()
	if d == back {
		ports[0], ports[1] = ports[1], ports[0]
	}
	if p.flags()&(syn|ack|rst) == syn {
		l.known[ports] = true
	}
	return l.known[ports]
}

// packet is one of IPv4, from the first byte of its header on.
type packet []byte

const (
	protocolTCP = 6
	syn         = 0x02
	rst         = 0x04
	ack         = 0x10
)

func (p packet) valid() bool {
	return len(p) >= 20 && p[0]>>4 == 4 && p.header() >= 20 && len(p) >= p.header() && (!p.tcp() || len(p) >= p.header()+20)
}

func (p packet) header() int      { return int(p[0]&15) * 4 }
func (p packet) from() byte       { return p[15] } // the last byte of the address
func (p packet) to() byte         { return p[19] }
func (p packet) tcp() bool        { return p[9] == protocolTCP }
func (p packet) segment() []byte  { return p[p.header():] }
func (p packet) flags() byte      { return p.segment()[13] }
func (p packet) ports() [2]uint16 { return [2]uint16{p.word(0), p.word(2)} }
func (p packet) word(at int) uint16 {
	return binary.BigEndian.Uint16(p.segment()[at:])
}

// reset is what tells the sender of a packet that there is no such connection; nil: it is not to be told.
func (p packet) reset() packet {
	if p.flags()&rst != 0 || p.flags()&ack == 0 {
		return nil
	}
	r := make(packet, 40)
	r[0], r[3], r[8], r[9] = 0x45, 40, 64, protocolTCP
	copy(r[12:16], p[16:20])
	copy(r[16:20], p[12:16])
	binary.BigEndian.PutUint16(r[10:], checksum(r[:20], 0))
	t := r.segment()
	copy(t[0:2], p.segment()[2:4])
	copy(t[2:4], p.segment()[0:2])
	copy(t[4:8], p.segment()[8:12]) // exactly what the sender expects next
	t[12], t[13] = 5<<4, rst
	pseudo := uint32(protocolTCP + 20)
	for i := 12; i < 20; i += 2 {
		pseudo += uint32(binary.BigEndian.Uint16(r[i:]))
	}
	binary.BigEndian.PutUint16(t[16:], checksum(t, pseudo))
	return r
}

// checksum is the Internet's, of an even number of bytes.
func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

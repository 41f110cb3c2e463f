package crash

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
)

// namespaces are a network of hosts that are network namespaces of this machine, without names: each has one device, whose
// other end this process holds, and there is no way to anywhere else. So all of it is gone when this process is.
type namespaces struct {
	t     testing.TB
	net   netip.Prefix
	board *switchboard
	hosts map[string]byte // last byte of the address
}

// newNamespaces makes a network with one host, the one outside; an error: this machine does not allow it.
func newNamespaces(t testing.TB) (*namespaces, error) {
	t.Helper()
	n := &namespaces{t: t, board: newSwitchboard(), hosts: make(map[string]byte)}
	// Addresses that are nobody's, being set aside for trying out networks. The device's name keeps the runs of this test apart.
	for i := range 256 {
		n.net = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 0}), 24)
		err := n.plug(outside, fmt.Sprintf("keybrake-%d", i))
		if errors.Is(err, unix.EBUSY) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return n, apart(func() error { return nil })
	}
	return nil, errors.New("all networks are taken")
}

func (n *namespaces) String() string { return n.net.String() }

// address is the one that a host has, or the next one gets.
func (n *namespaces) address(host byte) netip.Addr {
	a := n.net.Addr().As4()
	a[3] = host
	return netip.AddrFrom4(a)
}

// plug makes a host's device in the namespace of this thread and connects it.
func (n *namespaces) plug(name, device string) error {
	host := byte(len(n.hosts) + 1)
	file, err := open(device, n.address(host), n.net.Bits())
	if err != nil {
		return fmt.Errorf("a network device: %w", err)
	}
	n.t.Cleanup(func() { _ = file.Close() }) // and with it the device
	n.hosts[name] = host
	n.board.plug(host, file)
	return nil
}

func (n *namespaces) host(name string) postgrestest.Host {
	n.t.Helper()
	place := -1
	err := apart(func() (err error) {
		if err := n.plug(name, "net0"); err != nil {
			return err
		}
		if err := raise("lo"); err != nil {
			return err
		}
		place, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = unix.Close(place) })
	n.board.between(n.hosts[outside], n.hosts[name])
	return postgrestest.Host{
		Address: n.address(n.hosts[name]).String(),
		Enter:   func() error { return unix.Setns(place, unix.CLONE_NEWNET) },
	}
}

func (n *namespaces) outward(port int) (string, int) {
	return newLine(n.t, n.address(n.hosts[outside]).String(), port).address()
}

func (n *namespaces) way(from, to string) way {
	a, b := n.hosts[from], n.hosts[to]
	return &stretch{board: n.board, link: n.board.between(a, b), turned: a > b, to: n.address(b)}
}

// stretch is a way between two namespaces.
type stretch struct {
	board  *switchboard
	link   *link
	turned bool // it begins at the higher host
	to     netip.Addr
	port   int
}

func (s *stretch) address() (string, int) { return s.to.String(), s.port }
func (s *stretch) lead(port int)          { s.port = port }

func (s *stretch) lose(there, back bool) {
	if s.turned {
		there, back = back, there
	}
	s.set(func(l *link) { l.lost = [2]bool{there, back} })
}

func (s *stretch) slow(most time.Duration) { s.set(func(l *link) { l.most = most }) }
func (s *stretch) cut()                    { s.set(func(l *link) { clear(l.known) }) }

func (s *stretch) set(change func(*link)) {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	change(s.link)
}

// apart does something in a new network namespace.
func apart(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("a network namespace: %w", err)
			return
		}
		done <- do()
	}()
	return <-done
}

// open makes a device with an address in the namespace of this thread: what is sent through it can be read from the file, and
// what is written to that arrives.
func open(name string, address netip.Addr, bits int) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	device, err := unix.NewIfreq(name)
	if err == nil {
		device.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, device)
	}
	if err == nil {
		err = configure(name, address, bits)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// configure gives a device its address and switches it on.
func configure(name string, address netip.Addr, bits int) error {
	mask := uint32(0xffffffff) << (32 - bits)
	for _, set := range []struct {
		what    uint
		address [4]byte
	}{
		{unix.SIOCSIFADDR, address.As4()},
		{unix.SIOCSIFNETMASK, [4]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)}},
	} {
		if err := control(name, set.what, func(r *unix.Ifreq) error { return r.SetInet4Addr(set.address[:]) }); err != nil {
			return err
		}
	}
	return raise(name)
}

// raise switches a device on.
func raise(name string) error {
	return control(name, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return nil
	})
}

// control sets something of a device in the namespace of this thread.
func control(name string, what uint, to func(*unix.Ifreq) error) error {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := to(r); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlIfreq(s, what, r), unix.Close(s))
}

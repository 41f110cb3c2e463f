package crash

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A gate stands between the real program and the kernel: the kernel asks it about every system call that writes,
// flushes or dials, before it does it. So the program can be stopped, and killed, between any two of its steps, and a
// disk can fail as disks do, without a line for tests in the program. It is Linux's own (seccomp user notification,
// Linux 5.19) and needs no rights.
type gate struct {
	fd     int
	closed chan struct{}

	mu    sync.Mutex
	judge func(*attempt) answer
}

// attempt is a system call that the program is about to make.
type attempt struct {
	number int32
	file   string // the path of the file written, flushed or dialled from; "socket:[..]" for sockets
	data   []byte // the beginning of what is written
	size   int64  // of what is written; of a file that is cut
	at     int64  // where in the file
}

// answer is what becomes of an attempt.
type answer int

const (
	pass answer = iota
	hold        // it never comes to an end: the thread waits until the program is killed
)

// fail makes the call fail with an error.
func fail(e syscall.Errno) answer { return -answer(e) }

// gateVariable makes the test binary a door to the program: it asks the kernel for the gate, hands it to the test
// and becomes the program.
const gateVariable = "KEYBRAKE_CRASH_GATE"

// looked is how much of what is written a judge sees.
const looked = 8192

// gated are the system calls that a gate is asked about.
var gated = []int{unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_FTRUNCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_CONNECT}

func init() {
	if target := os.Getenv(gateVariable); target != "" {
		fmt.Fprintln(os.Stderr, passThrough(target))
		os.Exit(1)
	}
}

// passThrough becomes the program, behind a gate whose other side goes out by descriptor 3.
func passThrough(target string) error {
	runtime.LockOSThread() // the filter is of the thread that asks for it, and then of what it becomes
	arch := uint32(unix.AUDIT_ARCH_X86_64)
	if runtime.GOARCH == "arm64" {
		arch = unix.AUDIT_ARCH_AARCH64
	}
	const load, equal, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{ // seccomp_data: the number at 0, the architecture at 4
		{Code: load, K: 4}, {Code: equal, K: arch, Jf: uint8(len(gated) + 1)}, {Code: load, K: 0},
	}
	for i, nr := range gated {
		filter = append(filter, unix.SockFilter{Code: equal, K: uint32(nr), Jt: uint8(len(gated) - i)})
	}
	filter = append(filter, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("ask for no new rights: %w", err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("ask for a gate: %w", errno)
	}
	if err := unix.Sendmsg(3, []byte("g"), unix.UnixRights(int(fd)), nil, 0); err != nil {
		return fmt.Errorf("hand the gate over: %w", err)
	}
	unix.CloseOnExec(3)
	return syscall.Exec(target, append([]string{target}, os.Args[1:]...), os.Environ())
}

// openly lets everything pass.
func openly(*attempt) answer { return pass }

// startBehindGate starts a gateway behind a gate, with its first judge, and waits until it serves.
func (w *world) startBehindGate(judge func(*attempt) answer) *gate {
	w.t.Helper()
	g := w.launchBehindGate(judge)
	if !w.awaitServing(nil) {
		w.t.Fatalf("serve ended:\n%s", &w.gateway.out)
	}
	return g
}

func (w *world) launchBehindGate(judge func(*attempt) answer) *gate {
	w.t.Helper()
	notify := uint32(unix.SECCOMP_RET_USER_NOTIF)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&notify)))
	if errno != 0 && os.Getenv("CI") != "true" {
		w.t.Skipf("the kernel does not let us ask about system calls: %v", errno)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "gate"), os.NewFile(uintptr(pair[1]), "gate")
	defer theirs.Close() // the program has its own
	g := &gate{closed: make(chan struct{}), judge: judge}
	w.gateway = w.launch(func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, gateVariable+"="+cmd.Path)
		cmd.Path, cmd.ExtraFiles = self, []*os.File{theirs}
		go g.serve(w.t, ours)
	})
	return g
}

// serve takes the gate over and answers the kernel until the program has ended.
func (g *gate) serve(t testing.TB, ours *os.File) {
	defer close(g.closed)
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(ours.Fd()), make([]byte, 1), control, 0)
	_ = ours.Close() // nothing more comes by it
	var fds []int
	if err == nil && n > 0 {
		var messages []unix.SocketControlMessage
		if messages, err = unix.ParseSocketControlMessage(control[:n]); err == nil && len(messages) == 1 {
			fds, err = unix.ParseUnixRights(&messages[0])
		}
	}
	if err != nil || len(fds) != 1 {
		t.Errorf("no gate: %v", err)
		return
	}
	g.fd = fds[0]
	defer unix.Close(g.fd) //nolint:errcheck // the program is gone
	for g.next() {
	}
}

// notification and response are the kernel's own structures (struct seccomp_notif and seccomp_notif_resp).
type notification struct {
	id         uint64
	pid, flags uint32
	number     int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// next answers one question; false once there will be no more.
func (g *gate) next() bool {
	poll := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
		return false
	}
	if poll[0].Revents&unix.POLLIN == 0 {
		return poll[0].Revents&unix.POLLHUP == 0
	}
	var n notification
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(g.fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return errno == unix.EINTR || errno == unix.ENOENT // the thread is gone
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if a := g.judge(understand(&n)); a != hold {
		g.answer(n.id, a)
	}
	return true
}

func (g *gate) answer(id uint64, a answer) {
	r := response{id: id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if a < 0 {
		r.flags, r.errno = 0, int32(a)
	}
	// A failure means that the thread is gone.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(g.fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
}

// set changes what the gate does from now on.
func (g *gate) set(judge func(*attempt) answer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.judge = judge
}

// reach lets everything pass until the program is about to do what is described, and holds it there. The channel
// closes when it has come to that.
func (g *gate) reach(there func(*attempt) bool) <-chan struct{} {
	reached := make(chan struct{})
	var once sync.Once
	g.set(func(a *attempt) answer {
		if !there(a) {
			return pass
		}
		once.Do(func() { close(reached) })
		return hold
	})
	return reached
}

// understand looks up what the kernel's numbers mean.
func understand(n *notification) *attempt {
	a := &attempt{number: n.number}
	a.file, _ = os.Readlink(filepath.Join("/proc", strconv.Itoa(int(n.pid)), "fd", strconv.Itoa(int(n.args[0]))))
	switch n.number {
	case unix.SYS_FTRUNCATE:
		a.size = int64(n.args[1])
		return a
	case unix.SYS_WRITE:
		a.size = int64(n.args[2])
	case unix.SYS_PWRITE64:
		a.size, a.at = int64(n.args[2]), int64(n.args[3])
	default:
		return a
	}
	buf := make([]byte, min(a.size, looked))
	if len(buf) == 0 {
		return a
	}
	local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
	got, err := unix.ProcessVMReadv(int(n.pid), local, []unix.RemoteIovec{{Base: uintptr(n.args[1]), Len: len(buf)}}, 0)
	if err == nil {
		a.data = buf[:got]
	}
	return a
}

// logs reports whether a write or flush concerns the log of the store, with a text in it; an empty one is in all.
func (a *attempt) logs(number int32, text string) bool {
	return a.number == number && strings.HasSuffix(a.file, ".db-wal") && bytes.Contains(a.data, []byte(text))
}

// says reports whether it is a message that begins so, on a connection.
func (a *attempt) says(beginning string) bool {
	return a.number == unix.SYS_WRITE && strings.HasPrefix(a.file, "socket:") && bytes.HasPrefix(a.data, []byte(beginning))
}

package main

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// crowd is a listener that lets in at most so many connections at once. When it is full, the connection that has been
// without a request for the longest makes room; where all are at work, the next one waits. Idle connections cost
// descriptors, and somebody who opens thousands must not keep others out.
//
// It is the outermost of a server's listeners, and noticed is the server's ConnState: both speak of the same net.Conn.
type crowd struct {
	net.Listener
	max int

	mu sync.Mutex
	// idle has the connections without a request, longest first; in has all, with their place in idle or nil.
	idle list.List
	in   map[net.Conn]*list.Element
	// room is closed when somebody leaves or falls idle, and then another one.
	room   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newCrowd(l net.Listener, most int) *crowd {
	return &crowd{Listener: l, max: most, in: map[net.Conn]*list.Element{}, room: make(chan struct{}), closed: make(chan struct{})}
}

// Accept waits for the next connection and for room.
func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for {
		leaves, wait := c.admit(conn)
		if leaves != nil {
			_ = leaves.Close() // it did nothing that could be lost
		}
		if wait == nil {
			return conn, nil
		}
		select {
		case <-wait:
		case <-c.closed:
			_ = conn.Close() // nobody serves it any more
			return nil, net.ErrClosed
		}
	}
}

// admit puts a connection in, if need be in the place of another one, or says what to wait for.
func (c *crowd) admit(conn net.Conn) (leaves net.Conn, wait <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.in) >= c.max {
		first := c.idle.Front()
		if first == nil {
			return nil, c.room
		}
		leaves = first.Value.(net.Conn)
		c.forget(leaves)
	}
	c.in[conn] = c.idle.PushBack(conn) // until it asks for something
	return leaves, nil
}

// forget expects mu.
func (c *crowd) forget(conn net.Conn) {
	if e := c.in[conn]; e != nil {
		c.idle.Remove(e)
	}
	delete(c.in, conn)
}

// noticed follows what a connection does.
func (c *crowd) noticed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	place, ours := c.in[conn]
	if !ours {
		return // it had to leave
	}
	switch state {
	case http.StateActive:
		if place != nil {
			c.idle.Remove(place)
			c.in[conn] = nil
		}
		return
	case http.StateIdle:
		if place == nil {
			c.in[conn] = c.idle.PushBack(conn)
		}
	case http.StateClosed, http.StateHijacked:
		c.forget(conn)
	default:
		return
	}
	close(c.room)
	c.room = make(chan struct{})
}

// Close ends the listener, and the wait of a connection that it has not let in yet.
func (c *crowd) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Listener.Close()
}

package console

import (
	"fmt"
	"net/http"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// Times of the live stream.
const (
	// liveEvery is how often the record is looked at: a call is on the page well within a second.
	liveEvery = 250 * time.Millisecond
	// beatEvery tells a page that the stream still is one.
	beatEvery = 3 * time.Second
)

// live tells a page that something changed: the record grew or a brake moved. The page then fetches itself again; what it
// shows is made in one place, with and without a script.
func (s *console) live(w http.ResponseWriter, r *http.Request) {
	who, ok := s.whose(r)
	if !ok {
		http.Error(w, "sign in first", http.StatusUnauthorized)
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{}) // a stream has no end
	w.Header().Set("Content-Type", "text/event-stream")
	api := s.client(who)
	var last admin.Status
	said := time.Time{}
	ticks := time.NewTicker(liveEvery)
	defer ticks.Stop()
	for {
		now, err := api.Status(r.Context())
		if err != nil {
			return
		}
		event := ""
		switch {
		case said.IsZero(), time.Since(said) >= beatEvery:
			event = "beat"
		}
		if !said.IsZero() && (now.Height != last.Height || len(now.Brakes) != len(last.Brakes) || now.Trouble != last.Trouble) {
			event = "change"
		}
		last = now
		if event != "" {
			said = time.Now()
			if _, err := fmt.Fprintf(w, "event: %s\ndata: %d\n\n", event, now.Height); err != nil || control.Flush() != nil {
				return
			}
			if _, still := s.whose(r); !still {
				return // signed out or expired: the page finds out when it asks again
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-ticks.C:
		}
	}
}

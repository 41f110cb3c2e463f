package store

import "time"

// AlertRow is an alert as stored: something that was wrong, from when to when, and whom it was told.
type AlertRow struct {
	ID       string // "alr_" and base32 digits
	Kind     string
	Subject  string // what it is about; with Kind: at most one such alert is open
	Key      string // id of the vault key that it is about; empty: none
	Severity string
	Title    string
	Text     string
	First    time.Time
	Last     time.Time // when it was looked at last and still was so, roughly
	Resolved time.Time // zero = open
	// Told is when somebody was told of it last, and of which severity; zero = nobody yet.
	Told         time.Time
	ToldSeverity string
	Acked        time.Time
	AckedBy      string // operator
}

// MessageRow is a message to one target about some alerts, as stored until it is delivered and for a while after.
type MessageRow struct {
	ID       string // "msg_" and base32 digits: the same for each attempt
	Target   string
	Body     []byte // JSON
	Created  time.Time
	Due      time.Time // of the next attempt
	Attempts int
	Done     time.Time // delivered or given up; zero = waits
	Error    string    // of the last attempt; empty: it was delivered
}

// AlertsKept is how long alerts that are over and messages that are done stay.
const AlertsKept = 90 * 24 * time.Hour

// Alerts is the part of Tx about alerts and the messages that tell of them.
type Alerts interface {
	// Alerts lists alerts, those that are open first, then by when they began, newest first: at most limit.
	Alerts(limit int) ([]AlertRow, error)
	PutAlert(AlertRow) error
	// Messages lists messages to a target (empty: to all), those that wait first, then newest first: at most limit.
	Messages(target string, limit int) ([]MessageRow, error)
	PutMessage(MessageRow) error
	// ForgetAlerts deletes what was over before a time.
	ForgetAlerts(before time.Time) error
}

package postgrestest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestAStandbyHasWhatWasCommittedAndTakesOver(t *testing.T) {
	primary := Start(t)
	primary.Exec(t, "CREATE TABLE said (what TEXT)")
	primary.Synchronous(t)
	standby := primary.Standby(t, primary.Port)
	primary.Followed(t)
	primary.Exec(t, "INSERT INTO said VALUES ('before')")
	primary.Kill()
	standby.Promote(t)
	conn, err := pgx.Connect(t.Context(), standby.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // it only reads
	var what string
	if err := conn.QueryRow(t.Context(), "SELECT what FROM said").Scan(&what); err != nil || what != "before" {
		t.Errorf("%q, %v", what, err)
	}
}

func TestAFrozenServerAnswersNobody(t *testing.T) {
	s := Start(t)
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // it only reads
	s.Freeze()
	answered := make(chan error, 1)
	go func() { _, err := conn.Exec(context.Background(), "SELECT 1"); answered <- err }()
	select {
	case err := <-answered:
		t.Errorf("a frozen server answered: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	s.Thaw()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

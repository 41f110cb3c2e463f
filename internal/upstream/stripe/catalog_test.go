package stripe

import "testing"

func newAdapter(t testing.TB) *Adapter {
	t.Helper()
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTheTablesLoad(t *testing.T) { newAdapter(t) }

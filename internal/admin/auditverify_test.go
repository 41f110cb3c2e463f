package admin

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
	"github.com/keybrake/keybrake/internal/vault"
)

// newOldWorld is a world whose record has three archive files.
func newOldWorld(t *testing.T) (w *world, files []string) {
	t.Helper()
	master, err := vault.EphemeralMaster()
	if err != nil {
		t.Fatal(err)
	}
	w = &world{dir: t.TempDir(), master: master, vendor: newVendor(t)}
	now := time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)
	db, err := sqlite.Open(t.Context(), sqlite.Options{
		Path: w.storePath(), Signer: master, MasterCheck: master.CheckValue(), Clock: func() time.Time { return now }, ArchiveRecords: storetest.ArchiveRecords,
	})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Old(t, db, &now, true)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	files, err = filepath.Glob(w.storePath() + ".archive/*")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	return w, files
}

func TestArchivesAndTheStoreVerifyAsOneChain(t *testing.T) {
	w, files := newOldWorld(t)
	v, err := w.client.VerifyAudit(t.Context())
	if err != nil || !v.OK || v.First != 1 || v.Archives != 3 || v.Records != v.Last || v.LastSigned != v.Last || v.Absent != 0 || v.File != "" {
		t.Fatalf("%+v, %v", v, err)
	}
	content := make([][]byte, len(files))
	for i, name := range files {
		if content[i], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	flipped := bytes.Clone(content[1])
	flipped[len(flipped)/3] ^= 16
	for name, test := range map[string]struct {
		at   int
		with []byte // nil: the file is removed
		want string
	}{
		"one between is missing":        {1, nil, "missing"},
		"the last is missing":           {2, nil, "missing"},
		"a bit of one is flipped":       {1, flipped, "changed"},
		"one is cut":                    {1, content[1][:len(content[1])/2], "cut off"},
		"one is cut where a block ends": {1, content[1][:endOfBlock(t, content[1])], "cut off"},
		"one is empty":                  {0, []byte{}, "cut off"},
		"another has its name":          {1, content[2], "begins after record 2200"},
		"something was added to one":    {2, append(bytes.Clone(content[2]), content[2]...), "something follows"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Remove(files[test.at]); err != nil {
				t.Fatal(err)
			}
			if test.with != nil {
				if err := os.WriteFile(files[test.at], test.with, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			v, err := w.client.VerifyAudit(t.Context())
			if err != nil || v.OK || v.File != files[test.at] || !strings.Contains(v.Problem, files[test.at]) || !strings.Contains(v.Problem, test.want) || v.ProblemID == "" {
				t.Errorf("%+v, %v", v, err)
			}
			if err := os.WriteFile(files[test.at], content[test.at], 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	if v, err := w.client.VerifyAudit(t.Context()); err != nil || !v.OK {
		t.Errorf("all is back: %+v, %v", v, err)
	}
}

// endOfBlock is where the first part of an archive ends that can be unpacked by itself.
func endOfBlock(t *testing.T, file []byte) int {
	t.Helper()
	next := bytes.Index(file[1:], file[:4])
	if next < 0 {
		t.Fatal("it has one block")
	}
	return next + 1
}

func TestTheOldestArchivesMayBeLetGo(t *testing.T) {
	w, files := newOldWorld(t)
	for _, name := range files[:2] {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	const gone = 2 * storetest.ArchiveRecords
	v, err := w.client.VerifyAudit(t.Context())
	if err != nil || !v.OK || v.First != gone+1 || v.AbsentTo != gone || v.Absent != 2 || v.Archives != 1 || v.Records != v.Last-gone {
		t.Errorf("%+v, %v", v, err)
	}
	x, err := w.PrepareExport(t.Context(), AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := x.WriteJSONL(&out); err != nil {
		t.Fatal(err)
	}
	report, err := audit.Verify(&out, w.master.PublicKey())
	if err != nil || !report.OK || report.First != gone+1 {
		t.Errorf("%+v, %v", report, err)
	}
	if _, err := w.client.AuditRecord(t.Context(), audit.ID(audit.FirstChain, 7)); err == nil || !strings.Contains(err.Error(), files[0]) {
		t.Errorf("a record that is gone: %v", err)
	}
	list, err := w.client.Audit(t.Context(), AuditFilter{Ascending: true, Limit: 1})
	if err != nil || len(list.Items) != 1 || !strings.HasPrefix(string(list.Items[0]), `{"id":"aud_1_2201"`) {
		t.Errorf("%s, %v", list.Items, err)
	}
}

func TestAnExportReadsOverTheBorderOfArchives(t *testing.T) {
	w, _ := newOldWorld(t)
	for name, f := range map[string]AuditFilter{"everything": {}, "what was denied": {Verdict: "deny"}} {
		x, err := w.PrepareExport(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := x.WriteJSONL(&out); err != nil {
			t.Fatal(err)
		}
		report, err := audit.Verify(bytes.NewReader(out.Bytes()), w.master.PublicKey())
		if err != nil || !report.OK || report.Partial != (f.Verdict != "") || report.Records < 2 {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
		if err := x.WriteCSV(io.Discard); err != nil {
			t.Errorf("%s, as CSV: %v", name, err)
		}
	}
}

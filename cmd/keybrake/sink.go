package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/secretstore"
	"github.com/keybrake/keybrake/internal/vault"
)

// undoWait is how long a command that was interrupted, or whose secret store failed, takes to take back what it did.
const undoWait = 10 * time.Second

// unnamed is the label that a sink is asked about before a key is made whose name the server makes up.
const unnamed = "keybrake-check"

// sinkFlags name a secret store that takes new texts, and the config file that describes it.
type sinkFlags struct{ name, config string }

func (f *sinkFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "sink", "", "put the text into this secret store of the config file, and show it nowhere")
	cmd.Flags().StringVar(&f.config, "config", "", "config file that describes it (default: KEYBRAKE_CONFIG)")
}

// open returns the sink; nil if none is named.
func (f *sinkFlags) open() (*secretstore.Sink, error) {
	if f.name == "" {
		return nil, nil
	}
	c, err := placesOf(f.config, "--sink")
	if err != nil {
		return nil, err
	}
	for _, p := range c.Sinks {
		if p.Name == f.name {
			sink, err := secretstore.NewSink(p)
			if err != nil {
				return nil, usageError{err}
			}
			return sink, nil
		}
	}
	return nil, usageError{fmt.Errorf("the config file has no sink %q", f.name)}
}

// placesOf reads the config file for its secret stores. It is not believed where others may write it: it names commands.
func placesOf(file, flag string) (settings, error) {
	path := firstOf(file, os.Getenv("KEYBRAKE_CONFIG"))
	if path == "" {
		return settings{}, usageError{fmt.Errorf("%s needs the config file that describes it: --config FILE, or KEYBRAKE_CONFIG", flag)}
	}
	info, err := os.Stat(path)
	if err != nil {
		return settings{}, usageError{fmt.Errorf("read the config file: %w", err)}
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return settings{}, usageError{fmt.Errorf("others may write the config file %s, and with it say which commands run here; chmod go-w it", path)}
	}
	c := defaultSettings()
	if err := c.readFile(path); err != nil {
		return settings{}, usageError{err}
	}
	if err := secretstore.Check(c.Sinks, c.Sources); err != nil {
		return settings{}, usageError{fmt.Errorf("config file %s: %w", path, err)}
	}
	return c, nil
}

// sunkKey is a key whose text went into a secret store: nobody is shown it.
type sunkKey struct {
	admin.KeyCreated
	Key   string `json:"key,omitempty"` // in place of the one that has the text; always empty
	Sink  string `json:"sink"`
	Label string `json:"label"`
}

// createInto makes a key and puts it into a secret store. If that does not take it, the key is revoked again.
func (f *sinkFlags) createInto(ctx context.Context, sink *secretstore.Sink, req admin.KeyRequest) (sunkKey, error) {
	if err := sink.Ready(ctx, firstOf(req.Name, unnamed)); err != nil {
		return sunkKey{}, fmt.Errorf("no key was made: %w", err)
	}
	conn, err := connect()
	if err != nil {
		return sunkKey{}, err
	}
	k, err := conn.client.CreateKey(ctx, req)
	if err != nil {
		return sunkKey{}, explain(conn, err)
	}
	if err := sink.Put(ctx, k.Name, vault.NewSecret(k.Key), false); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWait)
		defer cancel()
		if _, revoking := conn.client.RevokeKey(undo, k.ID, "the sink "+f.name+" did not take it"); revoking != nil {
			return sunkKey{}, fmt.Errorf("%w\nthe vault key %s (%s) could not be revoked again (%w): nobody has its text; revoke it", err, k.Name, k.ID, explain(conn, revoking))
		}
		return sunkKey{}, fmt.Errorf("%w\nthe vault key %s was revoked again: nothing is left of it", err, k.Name)
	}
	k.Key = ""
	return sunkKey{KeyCreated: k, Sink: f.name, Label: k.Name}, nil
}

// sunkRotation is a rotation whose new text went into a secret store.
type sunkRotation struct {
	admin.KeyRotated
	Key   string `json:"key,omitempty"` // in place of the one that has the text; always empty
	Sink  string `json:"sink"`
	Label string `json:"label"`
}

// rotateInto gives a key a new text and puts it into a secret store. No older text gets its end before the store has the
// new one; if it does not take it, the rotation is taken back.
func (f *sinkFlags) rotateInto(ctx context.Context, c *admin.Client, sink *secretstore.Sink, key, overlap string) (sunkRotation, error) {
	before, err := c.Key(ctx, key)
	if err != nil {
		return sunkRotation{}, err
	}
	if err := sink.Ready(ctx, before.Name); err != nil {
		return sunkRotation{}, fmt.Errorf("nothing was rotated: %w", err)
	}
	k, err := c.RotateKey(ctx, before.ID, admin.Rotation{Open: true})
	if err != nil {
		return sunkRotation{}, err
	}
	if err := sink.Put(ctx, k.Name, vault.NewSecret(k.Key), true); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWait)
		defer cancel()
		if _, undoing := c.UndoRotation(undo, k.ID, k.Last4); undoing != nil {
			return sunkRotation{}, fmt.Errorf("%w\nthe rotation of %s could not be taken back (%w): the text before works on, and nobody has the new one; run `keybrake key rotate %s --undo`", err, k.Name, undoing, k.Name)
		}
		return sunkRotation{}, fmt.Errorf("%w\nthe rotation of %s was taken back: the text before works on", err, k.Name)
	}
	texts, err := c.EndOverlap(ctx, k.ID, admin.Overlap{Overlap: overlap})
	if err != nil {
		return sunkRotation{}, fmt.Errorf("the sink %s has the new text of %s, and the text before works on without an end (%w); end it with `keybrake key rotate %s --end-overlap`", f.name, k.Name, err, k.Name)
	}
	k.OldUntil = texts.OldUntil
	k.Key = ""
	return sunkRotation{KeyRotated: k, Sink: f.name, Label: k.Name}, nil
}

func printSunk(w io.Writer, sink, label string) {
	fmt.Fprintf(w, "Its text is in %s under the label %s, and is shown nowhere.\n", sink, label)
}

// secretFrom reads an upstream's secret from a source of the config file.
func secretFrom(ctx context.Context, source, config, label string) (string, error) {
	c, err := placesOf(config, "--secret-from")
	if err != nil {
		return "", err
	}
	for _, p := range c.Sources {
		if p.Name != source {
			continue
		}
		from, err := secretstore.NewSource(p)
		if err != nil {
			return "", usageError{err}
		}
		secret, err := from.Get(ctx, label)
		return secret.Reveal(), err
	}
	return "", usageError{fmt.Errorf("the config file has no source %q", source)}
}

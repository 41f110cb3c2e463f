package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/secretstore"
)

// applied is what became of one policy file.
type applied struct {
	File    string         `json:"file"`
	Name    string         `json:"name"`
	ID      string         `json:"id,omitempty"`
	What    string         `json:"what"` // created, changed or same; with --dry-run what it would be
	Changes []admin.Change `json:"changes"`
	Key     string         `json:"key,omitempty"` // of a new one that no sink took
	Sink    string         `json:"sink,omitempty"`
	Label   string         `json:"label,omitempty"`
}

// appliedAll is the answer of the command.
type appliedAll struct {
	Items  []applied        `json:"items"`
	Failed []admin.KeyError `json:"failed"`
	DryRun bool             `json:"dry_run"`
	Next   string           `json:"next"` // always empty: all are there
}

func newApply(s streams) *cobra.Command {
	var from, reason string
	var into sinkFlags
	var dry bool
	cmd := &cobra.Command{
		Use:   "apply -f DIR",
		Short: "Make vault keys as policy files say",
		Long: "Make the vault keys be what the policy files of a folder say (*.yaml, *.yml), or one file: a key for each `name:`. One that\n" +
			"there is gets the file's policy, one that there is not is made. Keys that no file names stay as they are. All files\n" +
			"are checked first: if anything is wrong with one, nothing is done. Whatever lets a key do more needs a --reason.",
		Example: "  keybrake apply -f policies/ --dry-run\n" +
			"  keybrake apply -f policies/ --sink runner-files --reason 'release 42 refunds more'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" {
				return usageError{errors.New("say which policies with -f DIR")}
			}
			sink, err := into.open()
			if err != nil {
				return err
			}
			conn, err := connect()
			if err != nil {
				return err
			}
			files, err := readPolicies(from)
			if err == nil {
				err = checkPolicies(cmd.Context(), conn, files, reason)
			}
			if err != nil {
				return err
			}
			out := appliedAll{Items: []applied{}, Failed: []admin.KeyError{}, DryRun: dry}
			a := applier{client: conn.client, sink: sink, into: &into, reason: reason}
			for _, f := range files {
				did := f.planned()
				if !dry {
					err = a.apply(cmd.Context(), f, &did)
				}
				if err != nil {
					out.Failed = append(out.Failed, admin.KeyError{Key: f.path, Error: err.Error()})
					if errors.Is(err, admin.ErrUnreachable) {
						break // what was made so far must be shown
					}
					continue
				}
				s.warn(f.check.Warnings)
				out.Items = append(out.Items, did)
			}
			if printing := s.print(*outputOf(cmd), out, out.people); printing != nil {
				return printing
			}
			if errors.Is(err, admin.ErrUnreachable) {
				return explain(conn, err)
			}
			return failedKeys(out.Failed)
		},
	}
	cmd.Flags().StringVarP(&from, "file", "f", "", "folder with policy files, or one of them")
	cmd.Flags().StringVar(&reason, "reason", "", "why; required if a key may do more afterwards")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
	into.bind(cmd)
	outputFlag(cmd)
	return cmd
}

// people says what was done, the texts of new keys with it.
func (a appliedAll) people(w io.Writer) {
	would := ""
	if a.DryRun {
		would = "would be "
	}
	for _, d := range a.Items {
		switch {
		case d.What == "same":
			fmt.Fprintf(w, "vault key %s is as %s says\n", d.Name, d.File)
			continue
		case d.ID == "":
			fmt.Fprintf(w, "vault key %s %s%s\n", d.Name, would, d.What)
		default:
			fmt.Fprintf(w, "vault key %s (%s) %s%s\n", d.Name, d.ID, would, d.What)
		}
		if d.What == "changed" {
			for _, c := range d.Changes {
				fmt.Fprintf(w, "  %s: %s -> %s\n", c.Field, dash(c.Old), dash(c.New))
			}
		}
		switch {
		case d.Sink != "":
			printSunk(w, d.Sink, d.Label)
		case d.Key != "":
			fmt.Fprintf(w, "\n  %s\n\nIt is shown this once: put it into your secret store under the label %s.\n", d.Key, d.Name)
		}
	}
}

// policyFile is one of the files, and the key that it is about.
type policyFile struct {
	path, name, text string
	key, etag        string // id and version of the key that there is; empty: none
	check            admin.PolicyCheck
}

// readPolicies reads a policy file, or those of a folder in the order of their names.
func readPolicies(from string) (files []*policyFile, err error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	paths := []string{from}
	if info.IsDir() {
		paths = nil
		entries, err := os.ReadDir(from)
		if err != nil {
			return nil, fmt.Errorf("read the policies: %w", err)
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
				paths = append(paths, filepath.Join(from, e.Name()))
			}
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s has no policy file (*.yaml, *.yml)", from)
	}
	of := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the policies: %w", err)
		}
		var head struct {
			Name string `yaml:"name"`
		}
		_ = yaml.Unmarshal(text, &head) // what is wrong with it the server says, with its place
		if other := of[head.Name]; other != "" && head.Name != "" {
			return nil, fmt.Errorf("%s and %s are both about the vault key %s", other, path, head.Name)
		}
		of[head.Name] = path
		files = append(files, &policyFile{path: path, name: head.Name, text: string(text)})
	}
	return files, nil
}

// checkPolicies finds the keys that there are and says all that is wrong with the files.
func checkPolicies(ctx context.Context, conn connection, files []*policyFile, reason string) error {
	keys, err := allKeys(ctx, conn.client, admin.KeyFilter{})
	if err != nil {
		return explain(conn, err)
	}
	ids := map[string]string{}
	for _, k := range keys.Items {
		ids[k.Name] = k.ID
	}
	var wrong []string
	for _, f := range files {
		if f.key = ids[f.name]; f.key != "" {
			k, err := conn.client.Key(ctx, f.key)
			if err != nil {
				return explain(conn, err)
			}
			f.etag = k.ETag
		}
		if f.check, err = conn.client.CheckPolicy(ctx, admin.PolicyCheckRequest{Key: f.key, KeyRequest: admin.KeyRequest{PolicyEdit: f.edit()}}); err != nil {
			return explain(conn, err)
		}
		for _, p := range f.check.Problems {
			wrong = append(wrong, f.problem(p))
		}
		if f.check.Widens && f.key != "" && strings.TrimSpace(reason) == "" {
			text := f.path + ": " + f.name + " could do more than before, which needs a --reason"
			for _, c := range f.check.Changes {
				text += fmt.Sprintf("\n  %s: %s -> %s", c.Field, dash(c.Old), dash(c.New))
			}
			wrong = append(wrong, text)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("nothing was done:\n%s", strings.Join(wrong, "\n"))
	}
	return nil
}

func (f *policyFile) edit() admin.PolicyEdit {
	return admin.PolicyEdit{Policy: f.text, PolicyFile: f.path}
}

// problem is what is wrong with the file, in one line as editors read it.
func (f *policyFile) problem(p admin.PolicyProblem) string {
	at := f.path
	if p.Line > 0 {
		at = fmt.Sprintf("%s:%d:%d", f.path, p.Line, p.Column)
	}
	if p.Field != "" && !strings.HasPrefix(p.Message, p.Field) {
		at += ": " + p.Field
	}
	return at + ": " + p.Message
}

// planned is what applying the file will do.
func (f *policyFile) planned() applied {
	did := applied{File: f.path, Name: f.check.Name, ID: f.key, What: "created", Changes: f.check.Changes}
	switch {
	case f.key != "" && len(f.check.Changes) == 0:
		did.What = "same"
	case f.key != "":
		did.What = "changed"
	}
	return did
}

// applier does what the files say.
type applier struct {
	client *admin.Client
	sink   *secretstore.Sink // nil: texts of new keys are shown
	into   *sinkFlags
	reason string
}

func (a *applier) apply(ctx context.Context, f *policyFile, did *applied) error {
	switch did.What {
	case "same":
		return nil
	case "changed":
		changed, err := a.client.UpdateKey(ctx, f.key, admin.KeyUpdate{PolicyEdit: f.edit(), Reason: a.reason, IfMatch: f.etag})
		did.Changes = changed.Changes
		return err
	}
	req := admin.KeyRequest{PolicyEdit: f.edit(), Name: f.name}
	if a.sink != nil {
		k, err := a.into.createInto(ctx, a.sink, req)
		did.ID, did.Sink, did.Label = k.ID, k.Sink, k.Label
		return err
	}
	k, err := a.client.CreateKey(ctx, req)
	did.ID, did.Key = k.ID, k.Key
	return err
}

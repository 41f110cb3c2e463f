package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version of a build without a checkout, as that of the image: set with -ldflags "-X main.release=v1.2.3".
var release string

// buildVersion is what the toolchain wrote into the binary.
type buildVersion struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a changed checkout
	Go       string `json:"go"`
}

func readVersion() buildVersion {
	v := buildVersion{Version: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version, v.Go = firstOf(release, info.Main.Version), info.GoVersion
	for _, set := range info.Settings {
		switch set.Key {
		case "vcs.revision":
			v.Revision = set.Value
		case "vcs.modified":
			v.Modified = set.Value == "true"
		}
	}
	return v
}

func newVersion(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Which build this is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := readVersion()
			return s.print(*outputOf(cmd), v, func(w io.Writer) {
				fmt.Fprintf(w, "keybrake %s %s %s\n", v.Version, v.Revision, v.Go)
			})
		},
	}
	outputFlag(cmd)
	return cmd
}

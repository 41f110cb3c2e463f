package stripe

import (
	"bytes"
	"embed"
	"encoding/csv"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed tables/*.csv tables/*.txt
var tableFiles embed.FS

// record is one line of a table, by column name.
type record struct {
	columns map[string]int
	fields  []string
	line    int
}

// get returns a column. Asking for a column that the table lacks is a mistake in this package.
func (r record) get(column string) string {
	i, ok := r.columns[column]
	if !ok {
		panic("stripe: no column " + column)
	}
	return r.fields[i]
}

// yes reads a column that holds "yes", "no" or nothing.
func (r record) yes(column string) (bool, error) {
	switch v := r.get(column); v {
	case "yes":
		return true, nil
	case "", "no":
		return false, nil
	default:
		return false, fmt.Errorf("%s is %q, not yes or no", column, v)
	}
}

// readTable reads a CSV table whose first line must name exactly the columns asked for, and calls add for
// every other line. Errors name file and line.
func readTable(files fs.FS, name, columns string, add func(record) error) error {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return fmt.Errorf("read table: %w", err)
	}
	lines, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		return fmt.Errorf("read table %s: %w", name, err)
	}
	if len(lines) == 0 || strings.Join(lines[0], " ") != columns {
		return fmt.Errorf("read table %s: the first line must name the columns %s", name, columns)
	}
	index := make(map[string]int, len(lines[0]))
	for i, c := range lines[0] {
		index[c] = i
	}
	for i, fields := range lines[1:] {
		if err := add(record{columns: index, fields: fields, line: i + 2}); err != nil {
			return fmt.Errorf("%s:%d: %w", name, i+2, err)
		}
	}
	return nil
}

// readLines calls add for every line of a generated table that is not a comment.
func readLines(files fs.FS, name string, add func(line string) error) error {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return fmt.Errorf("read table: %w", err)
	}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		if err := add(line); err != nil {
			return fmt.Errorf("%s:%d: %w", name, number, err)
		}
	}
	return nil
}

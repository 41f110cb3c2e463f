package secretstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"time"
)

// The test binary stands in for the command lines of secret stores: called by one of their names, it behaves as their
// documentation says, with a folder in place of the service. It takes the arguments that it knows and no others.

const storeVar = "FAKE_SECRET_STORE"

func TestMain(m *testing.M) {
	program, ok := map[string]func([]string) error{
		"op": onePassword, "aws": aws, "vault": vaultCLI, "doppler": doppler, "slow": slow, "loud": loud, "env": environment,
	}[filepath.Base(os.Args[0])]
	if !ok {
		goleak.VerifyTestMain(m) // exits
	}
	if err := program(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

// programs puts the stand-ins on the path and returns the folder that is their service.
func programs(t *testing.T) (service string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, name := range []string{"op", "aws", "vault", "doppler", "slow", "loud", "env"} {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	service = t.TempDir()
	t.Setenv("PATH", bin)
	t.Setenv(storeVar, service)
	return service
}

func lies(name string) string {
	return filepath.Join(os.Getenv(storeVar), strings.ReplaceAll(name, "/", "%"))
}

func keep(name, secret string) error { return os.WriteFile(lies(name), []byte(secret), 0o600) }

func kept(name string) (string, error) {
	text, err := os.ReadFile(lies(name))
	return string(text), err
}

func has(name string) bool { _, err := os.Stat(lies(name)); return err == nil }

// parse takes flags with values ("--name", or "-name=" with the value in it) and bare ones out of arguments.
func parse(args []string, valued, bare []string) (flags map[string]string, rest []string, err error) {
	flags = map[string]string{}
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		switch {
		case joined && slices.Contains(valued, name+"="):
			flags[name] = value
		case slices.Contains(valued, args[i]) && i+1 < len(args):
			flags[args[i]], i = args[i+1], i+1
		case slices.Contains(bare, args[i]):
			flags[args[i]] = "yes"
		case strings.HasPrefix(args[i], "-") && args[i] != "-":
			return nil, nil, fmt.Errorf("unknown flag: %s", args[i])
		default:
			rest = append(rest, args[i])
		}
	}
	return flags, rest, nil
}

// onePassword: `item create --vault V -` and `item edit TITLE --vault V` read an item from standard input and print it.
func onePassword(args []string) error {
	flags, rest, err := parse(args, []string{"--vault"}, []string{"--no-newline"})
	if err != nil {
		return err
	}
	if len(rest) == 2 && rest[0] == "read" {
		parts := strings.Split(strings.TrimPrefix(rest[1], "op://"), "/")
		if len(parts) != 3 || parts[2] != "credential" {
			return fmt.Errorf("invalid secret reference %q", rest[1])
		}
		text, err := kept(parts[0] + "/" + parts[1])
		fmt.Print(text)
		return err
	}
	var item struct {
		Title    string `json:"title"`
		Category string `json:"category"`
		Fields   []struct{ ID, Type, Label, Value string }
	}
	in := json.NewDecoder(os.Stdin)
	in.DisallowUnknownFields()
	if err := in.Decode(&item); err != nil {
		return fmt.Errorf("invalid JSON in piped input: %w", err)
	}
	if item.Category != "API_CREDENTIAL" || len(item.Fields) != 1 || item.Fields[0].ID != "credential" || item.Fields[0].Type != "CONCEALED" {
		return errors.New("the item is none of the category")
	}
	name := flags["--vault"] + "/" + item.Title
	switch {
	case len(rest) == 3 && rest[0] == "item" && rest[1] == "create" && rest[2] == "-":
	case len(rest) == 3 && rest[0] == "item" && rest[1] == "edit" && has(flags["--vault"]+"/"+rest[2]):
		name = flags["--vault"] + "/" + rest[2]
	case len(rest) == 3 && rest[1] == "edit":
		return fmt.Errorf("%q isn't an item", rest[2])
	default:
		return fmt.Errorf("unknown command %v", rest)
	}
	fmt.Printf("ID: abc\nTitle: %s\ncredential: %s\n", item.Title, item.Fields[0].Value)
	return keep(name, item.Fields[0].Value)
}

// aws: a parameter that begins with file:// is the contents of that file. A secret is created once.
func aws(args []string) error {
	flags, rest, err := parse(args, []string{"--name", "--secret-id", "--secret-string", "--query", "--output"}, nil)
	if err != nil {
		return err
	}
	if os.Getenv("AWS_PROFILE") == "" || len(rest) != 2 || rest[0] != "secretsmanager" {
		return fmt.Errorf("aws: error: argument command: Invalid choice %v", rest)
	}
	if rest[1] == "get-secret-value" && flags["--query"] == "SecretString" && flags["--output"] == "text" {
		text, err := kept(flags["--secret-id"])
		fmt.Println(text)
		return err
	}
	path, ok := strings.CutPrefix(flags["--secret-string"], "file://")
	if !ok {
		return errors.New("the secret is on the command line")
	}
	secret, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	switch name := flags["--name"]; {
	case rest[1] == "create-secret" && has(name):
		return errors.New("An error occurred (ResourceExistsException) when calling the CreateSecret operation: the secret already exists")
	case rest[1] == "create-secret":
		return keep(name, string(secret))
	case rest[1] == "put-secret-value" && has(flags["--secret-id"]):
		return keep(flags["--secret-id"], string(secret))
	default:
		return errors.New("An error occurred (ResourceNotFoundException)")
	}
}

// vaultCLI: a value of - is read from standard input.
func vaultCLI(args []string) error {
	flags, rest, err := parse(args, []string{"-mount=", "-field="}, nil)
	switch {
	case err != nil:
		return err
	case len(rest) == 4 && rest[0] == "kv" && rest[1] == "put" && rest[3] == "key=-":
		secret, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		return keep(flags["-mount"]+"/"+rest[2], string(secret))
	case len(rest) == 3 && rest[0] == "kv" && rest[1] == "get" && flags["-field"] == "key":
		text, err := kept(flags["-mount"] + "/" + rest[2])
		fmt.Print(text)
		return err
	default:
		return fmt.Errorf("invalid arguments %v", rest)
	}
}

var dopplerName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// doppler: without a value the secret is read from standard input; without --silent it is printed afterwards.
func doppler(args []string) error {
	flags, rest, err := parse(args, []string{"--project", "--config"}, []string{"--silent", "--no-interactive", "--plain"})
	if err != nil {
		return err
	}
	if len(rest) != 3 || rest[0] != "secrets" || !dopplerName.MatchString(rest[2]) {
		return fmt.Errorf("Secret names must contain only uppercase letters, numbers and underscores: %v", rest)
	}
	name := flags["--project"] + "/" + flags["--config"] + "/" + rest[2]
	switch {
	case rest[1] == "set" && flags["--no-interactive"] != "":
		secret, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		if flags["--silent"] == "" {
			fmt.Println(string(secret))
		}
		return keep(name, string(secret))
	case rest[1] == "get" && flags["--plain"] != "":
		text, err := kept(name)
		fmt.Println(text)
		return err
	default:
		return fmt.Errorf("unknown command %v", rest)
	}
}

// slow never ends by itself.
func slow([]string) error { time.Sleep(time.Hour); return nil }

// loud complains at length, with what it was given in it.
func loud([]string) error {
	secret, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s\nthe service said no to %s", strings.Repeat("x", 100<<10), secret)
}

// environment keeps its environment.
func environment([]string) error { return keep("environment", strings.Join(os.Environ(), "\n")) }

package stripe

import (
	"fmt"
	"io/fs"
	"strings"
)

// loadParams reads what operations take: params.txt for those of the OpenAPI document, params_v2.txt for writes of
// v2 that move money. Equal descriptions are one value, so that the table stays small in memory.
func (c *Catalog) loadParams(files fs.FS) error {
	if err := c.loadParamTable(files, "tables/params.txt"); err != nil {
		return err
	}
	return c.loadParamTable(files, "tables/params_v2.txt")
}

func (c *Catalog) loadParamTable(files fs.FS, name string) error {
	shared := map[string]*ParamSpec{}
	return readLines(files, name, func(line string) error {
		head, rest, _ := strings.Cut(line, " ")
		if strings.HasPrefix(head, "#") {
			spec, err := parseSpec(rest, shared)
			shared[head] = spec
			return err
		}
		path, text, _ := strings.Cut(rest, " ")
		row := c.byCall[head+" "+path]
		if row == nil {
			return fmt.Errorf("%s %s is not in operations.csv", head, path)
		}
		spec, err := parseSpec(text, shared)
		row.Params = spec
		return err
	})
}

// parseSpec reads one description: letters s i n b m, [element], {name:type ...} and "#7" for a shared one.
func parseSpec(text string, shared map[string]*ParamSpec) (*ParamSpec, error) {
	p := specParser{rest: text, shared: shared}
	spec, err := p.spec()
	if err == nil && p.rest != "" {
		err = fmt.Errorf("%q is left over", p.rest)
	}
	return spec, err
}

type specParser struct {
	rest   string
	shared map[string]*ParamSpec
}

func (p *specParser) spec() (*ParamSpec, error) {
	s := &ParamSpec{}
	for p.rest != "" {
		switch p.rest[0] {
		case 's':
			s.Type |= StringType
		case 'i':
			s.Type |= IntegerType
		case 'n':
			s.Type |= NumberType
		case 'b':
			s.Type |= BoolType
		case 'm':
			s.Type |= MapType
		case '#':
			return p.reference()
		case '[':
			p.rest = p.rest[1:]
			element, err := p.spec()
			if err != nil {
				return nil, err
			}
			s.Type |= ArrayType
			s.Element = element
			if !strings.HasPrefix(p.rest, "]") {
				return nil, fmt.Errorf("an array is not closed at %q", p.rest)
			}
		case '{':
			s.Type |= HashType
			if err := p.members(s); err != nil {
				return nil, err
			}
		default:
			return s, nil
		}
		p.rest = p.rest[1:]
	}
	return s, nil
}

func (p *specParser) reference() (*ParamSpec, error) {
	end := 1
	for end < len(p.rest) && p.rest[end] >= '0' && p.rest[end] <= '9' {
		end++
	}
	s := p.shared[p.rest[:end]]
	if s == nil {
		return nil, fmt.Errorf("%s is not defined above", p.rest[:end])
	}
	p.rest = p.rest[end:]
	return s, nil
}

// members reads up to the closing brace, which it leaves for the caller.
func (p *specParser) members(s *ParamSpec) error {
	s.Members = map[string]*ParamSpec{}
	p.rest = p.rest[1:]
	for !strings.HasPrefix(p.rest, "}") {
		name, rest, ok := strings.Cut(p.rest, ":")
		if !ok || name == "" {
			return fmt.Errorf("a hash is not closed at %q", p.rest)
		}
		p.rest = rest
		member, err := p.spec()
		if err != nil {
			return err
		}
		s.Members[name] = member
		p.rest = strings.TrimPrefix(p.rest, " ")
	}
	return nil
}

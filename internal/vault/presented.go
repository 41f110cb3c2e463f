package vault

import (
	"encoding/base64"
	"strings"
)

// PresentedFrom reads the credential from a request's Authorization header values. It takes exactly one
// value, `Bearer <key>` or `Basic base64("<key>:")` as Stripe does; two values, another scheme or a
// password are refused, because two readers could disagree on which credential was meant. What it returns
// is not checked: that is Authenticate's.
func PresentedFrom(authorization []string) (credential string, ok bool) {
	if len(authorization) != 1 {
		return "", false
	}
	scheme, rest, ok := strings.Cut(authorization[0], " ")
	if !ok {
		return "", false
	}
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		credential = strings.Trim(rest, " ")
	case strings.EqualFold(scheme, "Basic"):
		raw, err := base64.StdEncoding.DecodeString(strings.Trim(rest, " "))
		if err != nil {
			return "", false
		}
		user, password, _ := strings.Cut(string(raw), ":")
		if password != "" {
			return "", false
		}
		credential = user
	default:
		return "", false
	}
	return credential, credential != ""
}

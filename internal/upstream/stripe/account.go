package stripe

import (
	"encoding/json"
	"regexp"
)

// AccountPath is asked to learn which account a secret belongs to.
const AccountPath = "/v1/account"

// lackingOn is how Stripe names the account in its refusal of a restricted key that may not read it.
var lackingOn = regexp.MustCompile(`on account '(acct_[A-Za-z0-9]+)'`)

var accountID = regexp.MustCompile(`^acct_[A-Za-z0-9]+$`)

// AccountOf reads the account of the secret that GET AccountPath was asked with out of the answer, also out of one that
// lacks the permission and names the account all the same. Empty: the answer does not tell.
func AccountOf(status int, body []byte) string {
	var answer struct {
		ID    string `json:"id"`
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	switch status {
	case 200:
		if accountID.MatchString(answer.ID) {
			return answer.ID
		}
	case 401, 403:
		if m := lackingOn.FindStringSubmatch(answer.Error.Message); m != nil {
			return m[1]
		}
	}
	return ""
}

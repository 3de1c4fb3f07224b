printf 'Content-Type: text/plain\n\n%s pid %s\n' "$SERVER_SOFTWARE" "$PPID"

# A session that outlives the client that made it.
set -e
tmux -N -S "$1" new-session -d -s kept 'exec cat'
tmux -N -S "$1" send-keys -t kept 'typed into tmux' Enter
until tmux -N -S "$1" capture-pane -p -t kept | grep -q 'typed into tmux'; do :; done
tmux -N -S "$1" list-sessions -F '#{session_name}, #{session_windows} window'

<?php echo "php ", PHP_VERSION, " pid ", getmypid(), "\n";

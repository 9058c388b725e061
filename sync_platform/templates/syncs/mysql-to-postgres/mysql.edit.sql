UPDATE customers SET note = 'edited', balance = 7.25 WHERE id = 5;

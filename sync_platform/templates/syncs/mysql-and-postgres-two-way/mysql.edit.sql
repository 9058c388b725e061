UPDATE clients SET phone = '040-7', credit = 9.75 WHERE id = 7;
